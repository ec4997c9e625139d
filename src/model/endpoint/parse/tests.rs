//! The grammar's tables and properties.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::model::endpoint::{ClientSpec, SshHop};
use proptest::prelude::*;
use std::path::PathBuf;

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
fn what_was_meant_is_guessed() {
    for (text, guess) in [
        ("/run/a,b", Some("connect:unix:/run/a,,b")),
        ("/dev/ttyS0,baud=9600", Some("tty:/dev/ttyS0,baud=9600")),
        ("listen:/run/a", Some("listen:unix:/run/a")),
        ("listen:tcp:h", None),
        ("http://h/", None),
        ("h:1", Some("connect:tcp:h:1")),
        ("dev", None),
    ] {
        assert_eq!(meant(text).as_deref(), guess, "{text}");
    }
    let error = "connect:unix:/a\nb".parse::<EndpointSpec>().unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r"`connect:unix:/a\nb` is no endpoint: column 16"),
        "{error}"
    );
}

#[test]
fn clients_have_prefixes() {
    let client: ClientSpec = "gdb=listen:tcp:0".parse().unwrap();
    assert_eq!(client.to_string(), "gdb=listen:tcp:127.0.0.1:0");
    assert_eq!("gdb=tcp:0".parse::<ClientSpec>().unwrap_err().column, 5);
}

#[test]
fn target_names_are_no_endpoints() {
    assert!(starts_with_kind("listen:unix:/a") && starts_with_kind("stdio") && starts_with_kind("unix:/a"));
    assert!(!starts_with_kind("dev") && !starts_with_kind("stdio2") && !starts_with_kind("dev:1"));
}

proptest! {
    #[test]
    fn display_then_parse_is_the_identity(path in "/[ -~é]{0,40}", host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., hop in "([a-z]{1,4}@)?[a-z.]{1,9}(:[1-9][0-9]{0,3})?") {
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
