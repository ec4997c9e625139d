//! Consoles as they are met, and what the login makes of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

/// What the console answers to which words.
type Console<'a> = &'a [(&'a str, &'a str)];

/// Answers what is typed: each entry once, in order, when the words that it waits for were typed.
fn meet(credentials: Credentials, console: Console) -> (Result<LoggedIn, LoginFailure>, String) {
    let mark = Mark::new(5);
    let mut now = Duration::ZERO;
    let mut login = Login::new(credentials, mark.clone(), now);
    let (mut typed, mut fresh, mut next) = (String::new(), String::new(), 0);
    for _ in 0..300 {
        let output = String::from_utf8(login.take_output()).unwrap();
        typed.push_str(&output);
        fresh.push_str(&output);
        if let Some(outcome) = login.take_outcome() {
            return (outcome, typed);
        }
        match console.get(next) {
            Some((waits_for, answer)) if fresh.contains(waits_for) => {
                next += 1;
                fresh.clear();
                login.input(now, answer.replace('@', &mark.to_string()).as_bytes());
            }
            _ => {
                now = login.deadline();
                login.tick(now);
            }
        }
    }
    panic!("it never ends; typed {typed:?}");
}

fn root() -> Credentials {
    Credentials {
        user: Some("root".to_owned()),
        password: Some(Hidden::new("s3cret")),
        sudo: false,
    }
}

const SHELL: (&str, &str) = (
    "echo vm",
    " echo vm\"\"serial-@-$((6*7))\r\nvmserial-@-42\r\nroot@dev:~# ",
);
const UP: (&str, &str) = ("sh -c", "<@:up:0:place>\r\n");

#[test]
fn each_console_is_come_in_by() {
    let table: [(&str, Console, bool); 8] = [
        ("a shell is there", &[("\r", "\r\n~ # "), SHELL, UP], false),
        (
            "getty asks",
            &[
                ("\r", "\r\ndev login: "),
                ("root\r", "root\r\nPassword: "),
                ("s3cret\r", "\r\nLast login: Mon Nov 17 on ttyS0\r\nroot@dev:~# "),
                SHELL,
                UP,
            ],
            true,
        ),
        (
            "no password is asked for",
            &[
                ("\r", "dev login: "),
                ("root\r", "root\r\nWelcome\r\n# "),
                SHELL,
                UP,
            ],
            true,
        ),
        (
            "another language",
            &[
                ("\r", "dev login: "),
                ("root\r", "root\r\nPasswort: "),
                ("s3cret\r", "\r\n# "),
                SHELL,
                UP,
            ],
            true,
        ),
        (
            "kernel messages in between",
            &[
                (
                    "\r",
                    "\r\ndev login: [   12.3] usb 1-1: new device\r\n[  12.4] usb: more\r\n",
                ),
                (
                    "root\r",
                    "ro[   13.0] eth0: up\r\not\r\nPassword: [  13.1] eth0: down\r\n",
                ),
                ("s3cret\r", "[   14.0] audit: x\r\n# "),
                ("echo vm", "vmserial[  15.0] audit: y\r\n-@-42\r\n"),
                SHELL,
                UP,
            ],
            true,
        ),
        (
            "somebody's login was half done",
            &[
                ("\r", "Password: "),
                ("\r", "\r\nLogin incorrect\r\ndev login: "),
                ("root\r", "Password: "),
                ("s3cret\r", "# "),
                SHELL,
                UP,
            ],
            true,
        ),
        (
            "a vmserial that was killed left its shell",
            &[
                ("\r", "vmserial is using this console; Ctrl-C ends that\r\n"),
                ("\u{3}", "\r\n# "),
                SHELL,
                UP,
            ],
            false,
        ),
        (
            "getty starts late",
            &[
                ("\r", ""),
                ("\r", "dev login: "),
                ("root\r", "Password: "),
                ("s3cret\r", "# "),
                SHELL,
                UP,
            ],
            true,
        ),
    ];
    for (what, console, by_us) in table {
        let (outcome, _) = meet(root(), console);
        assert_eq!(outcome, Ok(LoggedIn { by_us, uid: 0 }), "{what}");
    }
}

#[test]
fn each_refusal_is_told() {
    let nobody = Credentials::default();
    let no_password = Credentials {
        password: None,
        ..root()
    };
    let refused = LoginFailure::Refused("root".to_owned());
    let table: [(&str, Credentials, Console, LoginFailure); 10] = [
        ("silence", root(), &[], LoginFailure::Silent),
        (
            "nobody is known",
            nobody.clone(),
            &[("\r", "dev login: ")],
            LoginFailure::NoUser,
        ),
        (
            "no password is known",
            no_password,
            &[("\r", "dev login: "), ("root\r", "Password: ")],
            LoginFailure::NoPassword,
        ),
        (
            "a wrong password",
            root(),
            &[
                ("\r", "dev login: "),
                ("root\r", "Password: "),
                ("s3cret\r", "\r\nLogin incorrect\r\ndev login: "),
            ],
            refused.clone(),
        ),
        (
            "a wrong password, told late",
            root(),
            &[
                ("\r", "dev login: "),
                ("root\r", "Password: "),
                ("s3cret\r", "\r\n"),
                ("echo", "\r\nLogin incorrect\r\ndev login: "),
            ],
            refused,
        ),
        (
            "a password that is too old",
            root(),
            &[
                ("\r", "dev login: "),
                ("root\r", "Password: "),
                (
                    "s3cret\r",
                    "You are required to change your password immediately.\r\nNew password: ",
                ),
            ],
            LoginFailure::NewPassword,
        ),
        ("KDB", root(), &[("\r", "\r\n[0]kdb> ")], LoginFailure::InDebugger),
        (
            "GRUB",
            root(),
            &[("\r", "\r\ngrub> ")],
            LoginFailure::InBootLoader,
        ),
        (
            "a read-only guest",
            nobody.clone(),
            &[("\r", "# "), SHELL, ("sh -c", "<@:up:0:>\r\n")],
            LoginFailure::NoPlace,
        ),
        (
            "a guest without base64",
            nobody,
            &[("\r", "# "), SHELL, ("sh -c", "<@:missing:base64>\r\n")],
            LoginFailure::Missing("base64".to_owned()),
        ),
    ];
    for (what, credentials, console, expected) in table {
        assert_eq!(meet(credentials, console).0, Err(expected), "{what}");
    }
    let menu = [("\r", "1) Status\r\n2) Reboot\r\nYour choice: ")];
    let again = ("echo", "What?\r\n");
    let console: Vec<(&str, &str)> = menu.into_iter().chain([again; 8]).collect();
    assert!(matches!(meet(root(), &console).0, Err(LoginFailure::NoShell(_))));
}

#[test]
fn sudo_gets_its_password_once() {
    let sudo = Credentials { sudo: true, ..root() };
    let shell = [("\r", "$ "), ("echo vm", "vmserial-@-42\r\n$ ")];
    let with = |rest: &[(&'static str, &'static str)]| {
        let console: Vec<(&str, &str)> = shell.iter().chain(rest).copied().collect();
        meet(sudo.clone(), &console)
    };
    let asked = (
        "sudo -p vm''serial-password: ",
        " sudo -p vm''serial-password: sh -c\r\nvmserial-password:",
    );
    let (outcome, typed) = with(&[asked, ("s3cret\r", "\r\n<@:up:0:place>\r\n")]);
    assert_eq!(outcome, Ok(LoggedIn { by_us: false, uid: 0 }));
    assert_eq!(typed.matches("s3cret").count(), 1);
    let (wrong, typed) = with(&[asked, ("s3cret\r", "\r\nSorry, try again.\r\nvmserial-password:")]);
    assert_eq!(wrong, Err(LoginFailure::Sudo(" the password".to_owned())));
    assert!(typed.ends_with('\u{3}'), "what waits for a password is ended");
    let (not, _) = with(&[("sudo", "\r\nme is not in the sudoers file.\r\n$ ")]);
    assert!(matches!(not, Err(LoginFailure::Sudo(words)) if words.contains("sudoers")));
}

#[test]
fn a_password_is_never_shown() {
    let mut login = Login::new(root(), Mark::new(1), Duration::ZERO);
    login.input(Duration::ZERO, b"dev login: ");
    login.input(Duration::ZERO, b"Password: ");
    let _ = login.take_output();
    assert!(!format!("{login:?}").contains("s3cret"));
}

#[test]
fn the_line_that_starts_our_shell_fits_a_terminal() {
    let sudo = Credentials { sudo: true, ..root() };
    let login = Login::new(sudo, Mark::new(u64::MAX), Duration::ZERO);
    let line = login.start_line();
    // BusyBox's line editor takes 1,024 characters.
    assert!(line.len() < 1000, "{}", line.len());
    assert_eq!(line.matches('\'').count(), 4, "{line}");
}

proptest! {
    /// Whatever a console says, the login ends, and a password is typed at a password's prompt only.
    #[test]
    fn every_console_has_an_end(words in proptest::collection::vec("[ -~\r\n]{0,40}", 0..30)) {
        let mut now = Duration::ZERO;
        let mut login = Login::new(root(), Mark::new(5), now);
        let mut words = words.into_iter();
        for _ in 0..400 {
            let _ = login.take_output();
            if login.take_outcome().is_some() {
                return Ok(());
            }
            match words.next() {
                Some(words) => login.input(now, words.as_bytes()),
                None => {
                    now = login.deadline();
                    login.tick(now);
                }
            }
        }
        prop_assert!(false, "it never ends");
    }
}

#[test]
fn a_slow_login_is_waited_for_before_anything_is_typed() {
    let mut now = Duration::ZERO;
    let mut login = Login::new(root(), Mark::new(5), now);
    login.take_output();
    login.input(now, b"\r\ndev login: ");
    assert_eq!(login.take_output(), b"root\r");
    // The prompt once more, for an Enter that came before the name, and the name's echo: nobody asked for anything yet, and
    // whatever is typed now is the password.
    login.input(now, b"\r\ndev login: ro");
    login.input(now, b"ot\r\n");
    let begun = now;
    while now < begun + Duration::from_secs(25) {
        now = login.deadline();
        login.tick(now);
        assert_eq!(login.take_output(), b"", "after {now:?}");
    }
    login.input(now, b"Password: ");
    assert_eq!(login.take_output(), b"", "its echo may still be on");
    login.tick(login.deadline());
    assert_eq!(login.take_output(), b"s3cret\r");
}

#[test]
fn a_flood_of_kernel_messages_is_no_answer_and_cuts_no_prompt() {
    let mut now = Duration::ZERO;
    let mut login = Login::new(root(), Mark::new(5), now);
    login.take_output();
    login.input(now, b"\r\ndev login: ");
    assert_eq!(login.take_output(), b"root\r");
    login.input(now, b"root\r\n");
    for number in 0..2000 {
        now += Duration::from_millis(10);
        login.input(now, format!("[  100.{number:06}] flood of many\r\n").as_bytes());
        login.tick(now);
        assert_eq!(login.take_output(), b"", "after {now:?}");
    }
    login.input(now, b"Pass[  101.000000] flood");
    login.input(now, b" of many\r\nword: [  101.000001] flood of many\r\n");
    for number in 2..100 {
        now += Duration::from_millis(10);
        login.input(now, format!("[  101.{number:06}] flood of many\r\n").as_bytes());
        login.tick(now);
    }
    assert_eq!(login.take_output(), b"s3cret\r");
}

#[test]
fn a_no_to_what_was_never_the_password_is_none() {
    let come_back: Console = &[
        ("\r", "\r\ndev login: "),
        // Nothing for half a minute: a line that only a shell understands is tried, and `login` takes it for the password.
        ("root\r", "root\r\n"),
        ("echo vm", "Login incorrect\r\ndev login: "),
        ("root\r", "root\r\nPassword: "),
        ("s3cret\r", "\r\n# "),
        SHELL,
        UP,
    ];
    let (outcome, _) = meet(root(), come_back);
    assert_eq!(outcome.map(|logged_in| logged_in.by_us), Ok(true));
    let asked_late: Console = &[
        ("\r", "\r\ndev login: "),
        ("root\r", "root\r\n"),
        // Whether the line was taken for the password or thrown away before it was asked for, only an empty one tells.
        ("echo vm", "Password: "),
        ("\r", "Login incorrect\r\ndev login: "),
        ("root\r", "root\r\nPassword: "),
        ("s3cret\r", "\r\n# "),
        SHELL,
        UP,
    ];
    let (outcome, _) = meet(root(), asked_late);
    assert_eq!(outcome.map(|logged_in| logged_in.by_us), Ok(true));
}
