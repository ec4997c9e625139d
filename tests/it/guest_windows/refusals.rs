//! What stands against it, each with what to do.

use super::{Lab, PORT, trial};
use crate::kit::is_fast;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("each_refusal_says_what_to_do", each_refusal_says_what_to_do),
        trial("words_that_no_guest_has", words_that_no_guest_has),
        trial(
            "a_change_between_plan_and_apply_is_refused",
            a_change_meanwhile_is_refused,
        ),
        trial(
            "without_a_way_in_the_lines_are_printed",
            without_a_way_in_the_lines_are_printed,
        ),
    ]
}

fn each_refusal_says_what_to_do() {
    let languages: &[&str] = if is_fast() { &["fr"] } else { &["en", "de", "fr"] };
    for language in languages {
        let lab = Lab::new(|guest| {
            (*language).clone_into(&mut guest.language);
            guest.secure_boot = Some(true);
        });
        let check = |words: &str, hint: &str| {
            let before = lab.guest();
            let ended = lab.local(&format!("{PORT} --yes"));
            assert_eq!(ended.code, Some(5), "{language}: {ended:?}");
            assert!(
                ended.stderr.contains(words) && ended.stderr.contains(hint),
                "{language}: {ended:?}"
            );
            assert_eq!((lab.guest(), lab.log()), (before, Vec::new()));
        };
        check("Secure Boot is on", "vmserial setup hyperv");
        lab.change(|guest| guest.secure_boot = None);
        lab.change(|guest| guest.elevated = false);
        check("an elevated administrator's", "Run as administrator");
        lab.change(|guest| guest.elevated = true);
        lab.change(|guest| {
            let ems = guest.objects.get_mut("{emssettings}").unwrap();
            ems.insert("emsport".to_owned(), "1".to_owned());
            ems.insert("bootems".to_owned(), "Yes".to_owned());
        });
        check("COM1 has the guest's EMS", "--ems 2");
    }
    let lab = Lab::new(|guest| guest.no_store = true);
    let ended = lab.local(&format!("{PORT} --yes"));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("recovery environment"), "{ended:?}");
}

fn words_that_no_guest_has() {
    let lab = Lab::new(|_| {});
    for words in [
        "--port COM9 --yes",
        "--port 1 --ems 1 --yes",
        "--port 1 --baud 4800 --yes",
        "--port none --yes",
        "--yes",
        "--port 1 --host x",
    ] {
        let ended = lab.local(words);
        assert_eq!(ended.code, Some(2), "{words}: {ended:?}");
    }
    let nowhere = lab.run("guest windows --port 1");
    assert_eq!(nowhere.code, Some(2), "{nowhere:?}");
    assert!(nowhere.stderr.contains("PowerShell Direct"), "{nowhere:?}");
    let unasked = lab.local(PORT);
    assert_eq!(unasked.code, Some(5), "{unasked:?}");
    assert!(lab.log().is_empty());
}

fn a_change_meanwhile_is_refused() {
    let lab = Lab::new(|guest| "manage-bde".clone_into(&mut guest.hangs_after));
    lab.change(|guest| "on".clone_into(&mut guest.bitlocker));
    let mut running = lab
        .sandbox
        .start(["guest", "windows", "--local", "--port", "1", "--yes"]);
    crate::kit::wait_until("the first step hangs", || (!lab.log().is_empty()).then_some(()));
    lab.change(|guest| {
        let settings = guest.objects.get_mut("{dbgsettings}").unwrap();
        settings.insert("debugtype".to_owned(), "NET".to_owned());
        guest.hangs_after.clear();
    });
    assert_eq!(running.wait_end(), 5, "{}", running.said());
    assert!(
        running.said().contains("changed since the plan was made"),
        "{}",
        running.said()
    );
    assert_eq!(lab.guest().get("{dbgsettings}", "debugtype"), Some("NET"));
    lab.done("undo --yes");
    assert_eq!(lab.guest().bitlocker, "on");
}

fn without_a_way_in_the_lines_are_printed() {
    let lab = Lab::new(|_| {});
    let ended = lab.run("guest windows --by-hand --port 1");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "manage-bde -protectors -disable C: -RebootCount 1",
            "bcdedit /dbgsettings serial debugport:1 baudrate:115200",
            "bcdedit /debug on",
            "shutdown /r /t 0",
        ]
    );
    assert!(ended.stderr.contains("recovery key"), "{ended:?}");
}
