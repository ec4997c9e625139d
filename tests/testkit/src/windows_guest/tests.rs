//! What the guest answers, against what is known of the real programs.

use super::*;

fn said(guest: &mut Guest, line: &str) -> Ended {
    let words: Vec<&str> = line.split(' ').collect();
    guest.program(words[0], &words[1..])
}

#[test]
fn it_keeps_what_is_set_and_says_so_in_its_language() {
    let mut guest = Guest::default();
    assert_eq!(said(&mut guest, "bcdedit /debug on").0, 0);
    assert_eq!(guest.get(CURRENT, "debug"), Some("Yes"));
    assert_eq!(
        said(
            &mut guest,
            "bcdedit /dbgsettings serial debugport:1 baudrate:9600"
        )
        .0,
        0
    );
    assert!(
        said(&mut guest, "bcdedit /dbgsettings")
            .1
            .contains("debugport               1\r\n")
    );
    "de".clone_into(&mut guest.language);
    let german = said(&mut guest, "bcdedit /enum {current} /v").1;
    assert!(
        german.contains(&format!("Bezeichner              {CURRENT}\r\n")),
        "{german}"
    );
    assert!(german.contains("debug                   Yes"));
    assert_eq!(said(&mut guest, "bcdedit /deletevalue {current} debug").0, 0);
    assert_eq!(said(&mut guest, "bcdedit /deletevalue {current} debug").0, 1);
}

#[test]
fn it_refuses_what_the_real_ones_refuse() {
    let mut guest = Guest {
        secure_boot: Some(true),
        ..Guest::default()
    };
    assert!(
        said(&mut guest, "bcdedit /debug on")
            .1
            .contains("protected by Secure Boot policy")
    );
    assert_eq!(said(&mut guest, "bcdedit /ems on").0, 0);
    guest.no_store = true;
    assert!(
        said(&mut guest, "bcdedit /enum {current}")
            .1
            .contains("cannot find the file")
    );
    guest.elevated = false;
    assert!(
        said(&mut guest, "bcdedit /enum {current}")
            .1
            .contains("Access is denied.")
    );
    assert!(said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0 < 0);
    assert_eq!(said(&mut guest, "format C:").0, 9009);
}

#[test]
fn a_suspension_is_used_up_by_a_boot() {
    let mut guest = Guest {
        bitlocker: "on".to_owned(),
        ..Guest::default()
    };
    assert_eq!(
        said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0,
        0
    );
    assert_eq!(
        said(&mut guest, "manage-bde -protectors -disable C: -RebootCount 1").0,
        0
    );
    assert_eq!(
        said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0,
        1
    );
    guest.boot();
    assert_eq!(guest.bitlocker, "on");
}
