//! What is planned from which facts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::guest::windows::bcd::settings;
use crate::guest::windows::facts::tests::{plain, said};
use crate::model::HostRef;
use crate::render::powershell::cmdlet_lines;

const ID: &str = "{5189b25c-0000-4bf2-bca4-289b11bd29e2}";

fn place() -> Place {
    Place {
        host: HostRef::Local,
        target: None,
        root: None,
    }
}

fn debug() -> WindowsWish {
    WindowsWish {
        debug: Some((1, 115_200)),
        ..WindowsWish::default()
    }
}

fn lines(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| match &step.action {
        Action::PowerShell(call) => cmdlet_lines(call).concat(),
        other => panic!("{other:?}"),
    };
    steps.iter().map(line).collect()
}

fn planned(facts: &WindowsFacts, wish: &WindowsWish) -> Vec<String> {
    lines(&steps(&place(), facts, wish).unwrap())
}

#[test]
fn the_debugger_is_put_on_its_port_and_switched_on() {
    assert_eq!(
        planned(&plain(), &debug()),
        [
            "bcdedit.exe /dbgsettings serial debugport:1 baudrate:115200".to_owned(),
            format!("bcdedit.exe /debug '{ID}' on"),
        ]
    );
}

#[test]
fn all_that_can_be_wanted_is_planned_in_its_order() {
    let wish = WindowsWish {
        boot_debug: true,
        ems: Some((2, 9600)),
        ..debug()
    };
    assert_eq!(
        planned(&plain(), &wish)[2..],
        [
            "bcdedit.exe /bootdebug '{bootmgr}' on".to_owned(),
            format!("bcdedit.exe /bootdebug '{ID}' on"),
            "bcdedit.exe /emssettings EMSPORT:2 EMSBAUDRATE:9600".to_owned(),
            format!("bcdedit.exe /ems '{ID}' on"),
        ]
    );
}

fn ready() -> WindowsFacts {
    let mut facts = plain();
    facts.debugger = settings(
        "debugtype               Serial\r\ndebugport               1\r\nbaudrate                115200\r\n",
    );
    let current = facts.current.as_mut().unwrap();
    current.elements = current.elements.iter().chain([("debug", "Yes")]).collect();
    facts
}

#[test]
fn what_is_so_already_is_no_step() {
    assert!(planned(&ready(), &debug()).is_empty());
    // Neither rights nor Secure Boot matter then.
    let mut facts = ready();
    facts.secure_boot = Some(true);
    facts.bitlocker = BitLocker::On;
    assert!(planned(&facts, &debug()).is_empty());
}

#[test]
fn bitlocker_is_suspended_first() {
    let mut facts = plain();
    facts.bitlocker = BitLocker::On;
    let all = steps(&place(), &facts, &debug()).unwrap();
    assert_eq!(
        lines(&all)[0],
        "manage-bde.exe '-protectors' '-disable' C: '-RebootCount' '1'"
    );
    assert!(all.iter().all(|step| step.confirm.is_none()));
    // Not for a console.
    let ems = WindowsWish {
        ems: Some((1, 115_200)),
        ..WindowsWish::default()
    };
    assert_eq!(planned(&facts, &ems).len(), 2);
}

#[test]
fn where_bitlocker_will_ask_the_step_is_confirmed_by_its_name() {
    let mut facts = plain();
    for (state, keep, words) in [
        (BitLocker::On, true, "BitLocker asks"),
        (BitLocker::Unknown, false, "nothing tells"),
    ] {
        facts.bitlocker = state;
        let wish = WindowsWish {
            suspend_bitlocker: !keep,
            ..debug()
        };
        let all = steps(&place(), &facts, &wish).unwrap();
        assert_eq!(all[0].confirm.as_deref(), Some("bitlocker"));
        assert!(all[0].notes.concat().contains(words), "{:?}", all[0].notes);
        assert_eq!(all.len(), 2);
    }
}

#[test]
fn each_refusal_says_what_to_do() {
    let wish = debug();
    let mut secure = plain();
    secure.secure_boot = Some(true);
    let mut low = plain();
    low.elevated = Some(false);
    let mut denied = WindowsFacts::read(&[
        said(0, "S-1-16-8192"),
        said(
            1,
            include_str!("../../../../tests/data/windows/refused-access.en.txt"),
        ),
    ]);
    let store = WindowsFacts::read(&[
        said(0, "S-1-16-12288"),
        said(
            1,
            include_str!("../../../../tests/data/windows/refused-store.en.txt"),
        ),
    ]);
    let none = WindowsFacts::read(&[said(9009, ""), said(9009, "")]);
    let mut ems = plain();
    ems.ems = settings("emsport                 1\r\nbootems                 Yes\r\n");
    for (facts, words) in [
        (&secure, "Secure Boot is on"),
        (&low, "an elevated administrator's"),
        (&denied, "an elevated administrator's"),
        (&store, "not where bcdedit looks"),
        (&none, "no `bcdedit` there"),
        (&ems, "COM1 has the guest's EMS"),
    ] {
        let problem = steps(&place(), facts, &wish).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition, "{problem:?}");
        assert!(problem.message.contains(words), "{problem:?}");
        assert!(!problem.hints.is_empty());
    }
    // In another language elevation alone tells it.
    denied.refused = Some(Refusal::Other("Zugriff verweigert".to_owned()));
    assert!(
        steps(&place(), &denied, &wish)
            .unwrap_err()
            .message
            .contains("elevated")
    );
}

#[test]
fn ems_and_the_debugger_never_share_a_port() {
    let both = WindowsWish {
        ems: Some((1, 115_200)),
        ..debug()
    };
    let problem = steps(&place(), &plain(), &both).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Usage);
    assert!(problem.message.contains("cannot share a port"), "{problem}");
    let alone = WindowsWish {
        ems: Some((1, 115_200)),
        ..WindowsWish::default()
    };
    let problem = steps(&place(), &ready(), &alone).unwrap_err();
    assert!(
        problem.message.contains("COM1 has the guest's debugger"),
        "{problem}"
    );
    // Moved away in the same plan.
    let mut ems = plain();
    ems.ems = settings("emsport                 1\r\nbootems                 Yes\r\n");
    let moved = WindowsWish {
        ems: Some((2, 115_200)),
        ..debug()
    };
    assert_eq!(planned(&ems, &moved).len(), 4);
}

#[test]
fn ports_and_speeds_that_no_guest_has_are_refused() {
    for (debug, words) in [
        ((0, 115_200), "COM0"),
        ((5, 115_200), "COM5"),
        ((1, 4800), "4800"),
    ] {
        let wish = WindowsWish {
            debug: Some(debug),
            ..WindowsWish::default()
        };
        let problem = wish.check().unwrap_err();
        assert!(problem.message.contains(words), "{problem}");
    }
}

#[test]
fn a_plan_never_holds_a_key() {
    let mut facts = plain();
    facts.debugger = settings(include_str!(
        "../../../../tests/data/windows/dbgsettings-net.en.txt"
    ));
    let all = steps(&place(), &facts, &debug()).unwrap();
    let text = serde_json::to_string(&all).unwrap();
    assert!(text.contains("NET") && !text.contains("1.2.3.4"), "{text}");
    assert!(!format!("{all:?} {facts:?}").contains("1.2.3.4"));
}
