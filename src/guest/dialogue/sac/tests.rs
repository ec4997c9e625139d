//! The dialogue against a console that is a few lines of a table.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::guest::dialogue::Hidden;

const STEP: Duration = Duration::from_millis(100);

fn credentials() -> Credentials {
    Credentials {
        user: Some("LAB\\Administrator".to_owned()),
        password: Some(Hidden::new("s3cret")),
        sudo: false,
    }
}

/// Talks until the login has ended; `answer` is the console.
fn login(
    credentials: Credentials,
    mut answer: impl FnMut(&str) -> String,
) -> (Result<(), LoginFailure>, Vec<String>) {
    let mut now = Duration::ZERO;
    let mut login = SacLogin::new(credentials, Mark::new(7), now);
    let mut typed = Vec::new();
    for _ in 0..10_000 {
        let output = String::from_utf8(login.take_output()).unwrap();
        if !output.is_empty() {
            let heard = answer(&output);
            typed.push(output);
            login.input(now, heard.as_bytes());
        }
        if let Some(outcome) = login.take_outcome() {
            return (outcome, typed);
        }
        now += STEP;
        login.tick(now);
    }
    panic!("the login does not end: {typed:?}");
}

fn console(typed: &str) -> String {
    match typed {
        "\r" => "\r\nSAC>".to_owned(),
        "cmd\r" => {
            "cmd\r\nDie Eingabeaufforderung wurde gestartet.\r\nSAC>\r\nEVENT: neu\r\nKanal: Cmd0003\r\nSAC>"
                .to_owned()
        }
        "ch -sn Cmd0003\r" => {
            "\r\nName: Cmd0003\r\n63d02271-8aa4-11d5-bccf-00b0d014a2d0\r\nBeliebige Taste".to_owned()
        }
        " " => "\r\nBenutzername: ".to_owned(),
        "Administrator\r" => "Administrator\r\nDom\u{e4}ne: ".to_owned(),
        "LAB\r" => "LAB\r\nKennwort: ".to_owned(),
        "s3cret\r" => "\r\nMicrosoft Windows\r\n\r\nC:\\Windows\\system32>".to_owned(),
        echo if echo.starts_with("echo ^<") => {
            let mark = Mark::new(7);
            format!("{echo}\n<{mark}:up:Windows_NT>\r\n\r\nC:\\Windows\\system32>")
        }
        _ => String::new(),
    }
}

#[test]
fn a_channel_is_opened_and_logged_in_to_in_any_language() {
    let (outcome, typed) = login(credentials(), console);
    assert_eq!(outcome, Ok(()));
    assert_eq!(typed[..4], ["\r", "cmd\r", "ch -sn Cmd0003\r", " "]);
    assert_eq!(typed[4..7], ["Administrator\r", "LAB\r", "s3cret\r"]);
}

#[test]
fn what_stands_against_a_login_is_told() {
    let refused = login(credentials(), |typed| match typed {
        "s3cret\r" => "\r\nFalsch.\r\nBenutzername: ".to_owned(),
        typed => console(typed),
    });
    assert_eq!(
        refused.0,
        Err(LoginFailure::Refused("LAB\\Administrator".to_owned()))
    );
    let nobody = login(Credentials::default(), console);
    assert_eq!(nobody.0, Err(LoginFailure::NoUser));
    let no_password = Credentials {
        password: None,
        ..credentials()
    };
    assert_eq!(login(no_password, console).0, Err(LoginFailure::NoPassword));
    assert_eq!(
        login(credentials(), |_| String::new()).0,
        Err(LoginFailure::Silent)
    );
    let unavailable = login(credentials(), |typed| match typed {
        "cmd\r" => "\r\nNot available.\r\nSAC>".to_owned(),
        typed => console(typed),
    });
    assert!(matches!(unavailable.0, Err(LoginFailure::NoShell(words)) if words.contains("Not available.")));
}

#[test]
fn prompts_are_known_by_their_form() {
    assert!(is_command_prompt("C:\\Windows\\system32>"));
    assert!(!is_command_prompt("SAC>") && !is_command_prompt("echo>") && !is_command_prompt(""));
    assert_eq!(channel("Channel: Cmd0001\r\nSAC>").as_deref(), Some("Cmd0001"));
    assert_eq!(channel("cmd\r\nSAC>"), None);
}

#[test]
fn the_console_of_ems_is_known_by_its_prompt() {
    assert!(shows_sac(
        b"\r\nComputer is booting, SAC started and initialized.\r\n\r\n\x1b[7;1HSAC>"
    ));
    assert!(!shows_sac(b"the SAC> prompt comes later\r\nSAC"));
}
