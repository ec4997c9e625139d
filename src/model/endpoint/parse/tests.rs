//! The grammar's tables and properties.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use proptest::prelude::*;

#[test]
fn canonical_forms() {
    for (written, canonical) in [
        ("connect:unix:/tmp/a", "connect:unix:/tmp/a"),
        ("connect:unix:/tmp/a,,b", "connect:unix:/tmp/a,,b"),
        ("listen:tcp:7001", "listen:tcp:127.0.0.1:7001"),
        ("listen:tcp:[::1]:0", "listen:tcp:[::1]:0"),
        ("connect:telnet:host:23", "connect:telnet:host:23"),
        (r"connect:pipe:\\.\pipe\kd", "connect:pipe:kd"),
        (r"connect:pipe:\\HOST\pipe\kd", r"connect:pipe:\\HOST\pipe\kd"),
        ("pty", "pty"),
        ("pty:", "pty"),
        ("pty:/tmp/l", "pty:/tmp/l"),
        ("tty:COM3,baud=9600", "tty:COM3,baud=9600"),
        (
            "tty:/dev/ttyS0,flow=rtscts,stop=2,parity=even,data=7,baud=1",
            "tty:/dev/ttyS0,baud=1,data=7,parity=even,stop=2,flow=rtscts",
        ),
        (
            "connect:rfc2217:h:1,stop=2,baud=300",
            "connect:rfc2217:h:1,baud=300,stop=2",
        ),
        ("stdio", "stdio"),
        ("exec: a 'b c', d", "exec:a 'b c', d"),
        ("file:/x", "file:/x"),
        (
            "connect:tcp:h:1,via=a@b:22,via=c",
            "connect:tcp:h:1,via=a@b:22,via=c",
        ),
    ] {
        let spec: EndpointSpec = written.parse().unwrap();
        assert_eq!(spec.to_string(), canonical, "{written}");
        assert_eq!(canonical.parse::<EndpointSpec>().unwrap(), spec);
    }
}

#[test]
fn every_wrong_string_says_which_part() {
    let long = format!("connect:unix:/{}", "x".repeat(107));
    for (text, column, part) in [
        ("", 1, "got nothing"),
        ("unix:/a", 1, "expected a role"),
        ("listen:unix", 12, "expected `:`"),
        ("listen:unix:", 13, "expected an address"),
        ("listen:stdio", 1, "has no role"),
        ("listen:udp:h:1", 8, "unknown kind `udp`"),
        ("connect:tcp:h", 14, "expected `HOST:PORT`"),
        ("connect:tcp:h:x", 15, "no port"),
        ("connect:tcp:h:0", 15, "port 0"),
        ("connect:tcp:h:+1", 15, "no port"),
        ("connect:tcp::1", 13, "expected a host"),
        ("connect:tcp:::1:80", 13, "brackets"),
        ("connect:tcp:[::1:80", 13, "[IPv6]"),
        ("connect:tcp:[zz]:80", 14, "no IPv6"),
        ("connect:pipe:COM1", 14, "reserved"),
        (r"listen:pipe:\\H\pipe\x", 13, "only be connected"),
        (r"connect:pipe:a\b", 14, "has no"),
        ("tty:/dev/ttyS0,baud=fast", 21, "no baud rate"),
        ("tty:/dev/ttyS0,speed=1", 16, "unknown option `speed`"),
        ("connect:rfc2217:h:1,baud=0", 26, "no baud rate"),
        ("listen:rfc2217:h:1,baud=9600", 20, "sets what it likes"),
        ("connect:unix:/a,b", 17, "name=value"),
        ("connect:tcp:h:1,via=-oX", 21, "no SSH destination"),
        ("stdio,via=x", 7, "unknown option"),
        ("exec:", 6, "expected a command"),
        ("exec:'a", 6, "quotes"),
        ("stdio:x", 7, "no address"),
        ("connect:unix:/a\nb", 16, "control character"),
        (long.as_str(), 14, "at most 107 bytes"),
    ] {
        let error = text.parse::<EndpointSpec>().unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert!(error.example.parse::<EndpointSpec>().is_ok(), "{error}");
    }
}

#[test]
fn clients_have_prefixes() {
    let client: ClientSpec = "gdb=listen:tcp:0".parse().unwrap();
    assert_eq!(client.to_string(), "gdb=listen:tcp:127.0.0.1:0");
    assert_eq!("gdb=tcp:0".parse::<ClientSpec>().unwrap_err().column, 5);
    assert!(
        "gbd=stdio"
            .parse::<ClientSpec>()
            .unwrap_err()
            .message
            .contains("unknown prefix")
    );
}

#[test]
fn target_names_are_no_endpoints() {
    assert!(starts_with_kind("listen:unix:/a") && starts_with_kind("stdio") && starts_with_kind("unix:/a"));
    assert!(!starts_with_kind("dev") && !starts_with_kind("stdio2") && !starts_with_kind("dev:1"));
}

proptest! {
    #[test]
    fn display_then_parse_is_the_identity(path in "/[ -~é]{0,40}", host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., hop in "[a-z@.]{1,9}") {
        for mut spec in [
            EndpointSpec::new(Some(Role::Connect), Address::Unix(PathBuf::from(&path))),
            EndpointSpec::new(Some(Role::Listen), Address::Tcp { host: host.clone(), port }),
            EndpointSpec::new(None, Address::Pty { link: Some(PathBuf::from(&path)) }),
        ] {
            spec.via = vec![SshHop(hop.clone()), SshHop(host.clone())];
            prop_assert_eq!(spec.to_string().parse::<EndpointSpec>().unwrap(), spec);
        }
        let file = EndpointSpec::new(None, Address::File(PathBuf::from(&path)));
        prop_assert_eq!(file.to_string().parse::<EndpointSpec>().unwrap(), file);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = text.parse::<ClientSpec>();
    }
}
