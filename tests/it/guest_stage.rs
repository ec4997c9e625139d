//! The inside of a guest as the last stage of its target's plan: shown, applied, taken back by the profile's own commands.

use crate::debug_lab::{Change, Lab};
use crate::guest::trial;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("apply_sets_up_the_guest_too", apply_sets_up_the_guest_too),
        trial(
            "a_guest_whose_kernel_cannot_is_left_out",
            a_guest_whose_kernel_cannot_is_left_out,
        ),
    ]
}

const KGDBOC: &str = "/sys/module/kgdboc/parameters/kgdboc";

fn lab(more: &str) -> Lab {
    Lab::with(&Change {
        kgdboc: Some(""),
        more,
        ..Change::default()
    })
}

fn apply_sets_up_the_guest_too() {
    let lab = lab("    guest: {os: linux, user: root}\n");
    // A VM that is off has nobody to ask, and an apply starts none.
    let off = lab.run(&["plan"]);
    assert_eq!(off.code, Some(0), "{off:?}");
    assert!(
        off.stderr
            .contains("the inside of the guest (kgdboc, sysctl) is left as it is: the VM does not run."),
        "{off:?}"
    );
    let vm = lab.up();
    vm.shell("/bin/busybox --install -s /bin");
    let planned = lab.run(&["plan", "--exit-code"]);
    assert_eq!(planned.code, Some(10), "{planned:?}");
    for part in ["  guest:\n", "point kgdb at ttyS1,115200 (kgdboc)"] {
        assert!(planned.stdout.contains(part), "{part}: {planned:?}");
    }
    let unasked = lab.run(&["apply"]);
    assert_eq!(unasked.code, Some(5), "{unasked:?}");
    assert!(vm.shell(&format!("echo \"=$(cat {KGDBOC})=\"")).contains("=="));
    let applied = lab.run(&["apply", "--yes"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        vm.shell(&format!("echo \"=$(cat {KGDBOC})=\""))
            .contains("=ttyS1,115200=")
    );
    let again = lab.run(&["apply", "--yes"]);
    assert!(
        again.code == Some(0) && again.stderr.contains("Nothing to change."),
        "{again:?}"
    );
    // It is the port on which the kernel stops.
    let script = lab.script("bt 1\nprintf \"stopped-%d\\n\", 40+2\n");
    let debugged = lab.run(&["debug", "demo", "--yes", "--batch", "-x", &script]);
    assert_eq!(debugged.code, Some(0), "{debugged:?}");
    assert!(debugged.stdout.contains("stopped-42"), "{debugged:?}");
    let undone = lab.run(&["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert!(vm.shell(&format!("echo \"=$(cat {KGDBOC})=\"")).contains("=="));
    vm.assert_well();
}

fn a_guest_whose_kernel_cannot_is_left_out() {
    // A third port that the machine does not have: the guest is asked, and says no.
    let lab = Lab::with(&Change {
        kgdboc: Some("8250.nr_uarts=1"),
        more: "    guest: {os: linux, user: root}\n",
        ..Change::default()
    });
    let vm = lab.up();
    vm.shell("/bin/busybox --install -s /bin");
    let planned = lab.run(&["plan"]);
    assert_eq!(planned.code, Some(4), "{planned:?}");
    assert!(
        planned.stderr.contains("the guest has no serial port `ttyS1`"),
        "{planned:?}"
    );
}
