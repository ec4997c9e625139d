//! `vmserial guest windows` on a stand-in of a Windows guest whose `bcdedit` and `manage-bde` keep state and refuse as the real ones
//! do: inside it, through a real OpenSSH server, and by PowerShell Direct.

mod by_hand;
mod cmd;
mod direct;
mod refusals;
mod sac;
mod stage;
mod ways;

use crate::kit::{Ended, Sandbox, is_fast};
use libtest_mimic::Trial;
use std::fs;
use std::path::PathBuf;
use vmserial_testkit::windows_guest::{CURRENT, Elements, Guest};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "a_plan_shows_the_lines_and_changes_nothing",
            a_plan_shows_the_lines,
        ),
        trial("plan_apply_nothing_to_change_and_undo", plan_apply_and_undo),
        trial(
            "every_kind_of_debugger_comes_back",
            every_kind_of_debugger_comes_back,
        ),
        trial("a_network_key_is_never_shown", a_network_key_is_never_shown),
        trial(
            "bitlocker_is_suspended_and_goes_on",
            bitlocker_is_suspended_and_goes_on,
        ),
        trial(
            "ems_is_switched_on_beside_the_debugger",
            ems_is_switched_on_beside_the_debugger,
        ),
        trial("a_kill_in_the_middle_is_undone", a_kill_in_the_middle_is_undone),
        trial("a_look_tells_what_is_missing", a_look_tells_what_is_missing),
        trial("a_profile_says_it_all", a_profile_says_it_all),
    ];
    trials.extend(by_hand::trials());
    trials.extend(cmd::trials());
    trials.extend(direct::trials());
    trials.extend(refusals::trials());
    trials.extend(sac::trials());
    trials.extend(stage::trials());
    trials.extend(ways::trials());
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("guest_windows::{name}"), move || {
        test();
        Ok(())
    })
}

/// A sandbox with a Windows guest behind `powershell.exe`.
struct Lab {
    sandbox: Sandbox,
    state: PathBuf,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Guest)) -> Self {
        let sandbox = Sandbox::new().with("WIN_PW", "s3cret").with("WRONG_PW", "no");
        let state = sandbox.stand_in("powershell.exe");
        let lab = Self { sandbox, state };
        let mut guest = Guest::default();
        change(&mut guest);
        guest.write(&lab.state).unwrap();
        lab
    }

    fn guest(&self) -> Guest {
        Guest::read(&self.state).unwrap()
    }

    /// Somebody else changes the guest.
    fn change(&self, change: impl FnOnce(&mut Guest)) {
        let mut guest = self.guest();
        change(&mut guest);
        guest.write(&self.state).unwrap();
    }

    fn run(&self, line: &str) -> Ended {
        self.sandbox.run(line.split_whitespace())
    }

    /// Runs it inside the guest.
    fn local(&self, words: &str) -> Ended {
        self.run(&format!("guest windows --local {words}"))
    }

    fn done(&self, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended
    }

    /// What was changed in the guest, in order.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state.join("windows.log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }
}

/// Everything that was ever said or written down.
fn all_words(lab: &Lab, ended: &[&Ended]) -> String {
    let mut all: String = ended
        .iter()
        .map(|ended| format!("{}{}", ended.stdout, ended.stderr))
        .collect();
    for entry in fs::read_dir(lab.sandbox.path("state/journal")).unwrap() {
        all.push_str(&fs::read_to_string(entry.unwrap().path().join("entry.json")).unwrap_or_default());
    }
    all
}

const PORT: &str = "--port COM1";

fn a_plan_shows_the_lines() {
    let lab = Lab::new(|guest| "on".clone_into(&mut guest.bitlocker));
    let before = lab.guest();
    let ended = lab.local("--port COM1 --bootdebug --ems COM2 --plan");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    insta::assert_snapshot!(crate::setup_vmware::redact_entries(&ended.shown(&lab.sandbox)));
    assert_eq!((lab.guest(), lab.log()), (before, Vec::new()));
    assert!(!lab.sandbox.path("state/journal").exists());
}

fn plan_apply_and_undo() {
    let languages: &[&str] = if is_fast() { &["de"] } else { &["en", "de", "fr"] };
    for language in languages {
        let lab = Lab::new(|guest| (*language).clone_into(&mut guest.language));
        let before = lab.guest();
        let applied = lab.local(&format!("{PORT} --yes"));
        assert_eq!(applied.code, Some(0), "{applied:?}");
        let guest = lab.guest();
        assert_eq!(guest.get(CURRENT, "debug"), Some("Yes"));
        let serial = ["debugtype", "debugport", "baudrate"].map(|name| guest.get("{dbgsettings}", name));
        assert_eq!(serial, [Some("Serial"), Some("1"), Some("115200")]);
        let again = lab.local(&format!("{PORT} --yes"));
        assert!(
            again.stderr.contains("Nothing to change.") || again.stdout.contains("Nothing to change."),
            "{again:?}"
        );
        assert_eq!(lab.guest(), guest);
        lab.done("undo --yes");
        assert_eq!(lab.guest(), before, "{language}");
        let nothing = lab.run("undo --yes");
        assert_eq!(lab.guest(), before, "{nothing:?}");
    }
}

fn elements(all: &[(&str, &str)]) -> Elements {
    all.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

const NET: [(&str, &str); 6] = [
    ("busparams", "0.25.0"),
    ("debugtype", "NET"),
    ("dhcp", "No"),
    ("hostip", "192.168.2.10"),
    ("key", "1a.2b.3c.4d"),
    ("port", "50000"),
];

fn every_kind_of_debugger_comes_back() {
    let kinds: [&[(&str, &str)]; 6] = [
        &[("debugtype", "Local")],
        &[
            ("debugtype", "Local"),
            ("debugstart", "Active"),
            ("noumex", "Yes"),
        ],
        &[("baudrate", "9600"), ("debugport", "2"), ("debugtype", "Serial")],
        &NET,
        &[("debugtype", "USB"), ("targetname", "dev")],
        &[("channel", "32"), ("debugtype", "1394")],
    ];
    // The fast run takes the one with the most to put back.
    let kinds = if is_fast() { &kinds[3..4] } else { &kinds[..] };
    for kind in kinds {
        for forgets in [false, true] {
            let lab = Lab::new(|guest| {
                guest.forgets = forgets;
                guest.objects.insert("{dbgsettings}".to_owned(), elements(kind));
                // `debug` said no before, in words.
                let entry = guest.objects.get_mut(CURRENT).unwrap();
                entry.insert("debug".to_owned(), "No".to_owned());
            });
            let before = lab.guest();
            lab.done(&format!("guest windows --local {PORT} --yes"));
            assert_eq!(lab.guest().get("{dbgsettings}", "debugtype"), Some("Serial"));
            lab.done("undo --yes");
            assert_eq!(lab.guest(), before, "{kind:?}, forgets: {forgets}");
        }
    }
}

fn a_network_key_is_never_shown() {
    let lab = Lab::new(|guest| {
        guest.objects.insert("{dbgsettings}".to_owned(), elements(&NET));
        guest.forgets = true;
    });
    let show = lab.local("--show --json");
    let plan = lab.local(&format!("{PORT} --plan --json"));
    let apply = lab
        .sandbox
        .run(["-vv", "guest", "windows", "--local", "--port", "1", "--yes"]);
    assert_eq!(apply.code, Some(0), "{apply:?}");
    let journal = lab.run("journal --json");
    let undo_plan = lab.run("undo --plan");
    assert!(
        undo_plan.stdout.contains("key:***") || undo_plan.stderr.contains("key:***"),
        "{undo_plan:?}"
    );
    let undone = lab.sandbox.run(["-vv", "undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let said = all_words(&lab, &[&show, &plan, &apply, &journal, &undo_plan, &undone]);
    assert!(said.contains("192.168.2.10"), "{said}");
    assert!(!said.contains("1a.2b.3c.4d"), "{said}");
    assert_eq!(lab.guest().get("{dbgsettings}", "key"), Some("1a.2b.3c.4d"));
}

fn bitlocker_is_suspended_and_goes_on() {
    let lab = Lab::new(|guest| "on".clone_into(&mut guest.bitlocker));
    let before = lab.guest();
    lab.done(&format!("guest windows --local {PORT} --yes"));
    assert!(
        lab.log()[0].starts_with("manage-bde -protectors -disable C: -RebootCount 1"),
        "{:?}",
        lab.log()
    );
    assert_eq!(lab.guest().bitlocker, "suspended");
    lab.done(&format!("guest windows --local {PORT} --yes"));
    assert_eq!(lab.log().len(), 3);
    // Taken back before any boot: it guards again, at once.
    lab.done("undo --yes");
    assert_eq!(lab.guest(), before);
    // Taken back after a boot: it has our settings for its own, so the old ones want another boot without it.
    lab.done(&format!("guest windows --local {PORT} --yes"));
    lab.change(Guest::boot);
    assert_eq!(lab.guest().bitlocker, "on");
    lab.done("undo --yes");
    assert_eq!(lab.guest().bitlocker, "suspended");
    lab.change(Guest::boot);
    assert_eq!(lab.guest(), before);
    // Left alone it asks: the step is confirmed by its name, which `--yes` is not.
    let refused = lab.local(&format!("{PORT} --bitlocker keep --yes"));
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("recovery key"), "{refused:?}");
    lab.done(&format!(
        "guest windows --local {PORT} --bitlocker keep --yes --confirm bitlocker"
    ));
    assert_eq!(lab.guest().bitlocker, "on");
}

fn ems_is_switched_on_beside_the_debugger() {
    let lab = Lab::new(|_| {});
    let before = lab.guest();
    lab.done("guest windows --local --port 1 --bootdebug --ems 2 --baud 57600 --yes");
    let guest = lab.guest();
    assert_eq!(guest.get("{emssettings}", "emsport"), Some("2"));
    assert_eq!(guest.get("{emssettings}", "emsbaudrate"), Some("57600"));
    assert_eq!(guest.get(CURRENT, "ems"), Some("Yes"));
    assert_eq!(guest.get("{bootmgr}", "bootdebug"), Some("Yes"));
    assert_eq!(guest.get(CURRENT, "bootdebug"), Some("Yes"));
    lab.done("undo --yes");
    assert_eq!(lab.guest(), before);
    // Somebody else moves EMS after us: nothing is taken back, and the three versions are shown.
    lab.done("guest windows --local --ems 2 --yes");
    lab.change(|guest| {
        let ems = guest.objects.get_mut("{emssettings}").unwrap();
        ems.insert("emsport".to_owned(), "4".to_owned());
    });
    let moved = lab.guest();
    let refused = lab.run("undo --yes");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("emsport"), "{refused:?}");
    assert_eq!(lab.guest(), moved);
}

fn a_kill_in_the_middle_is_undone() {
    let places: &[&str] = &["bcdedit /debug", "bcdedit /dbgsettings serial", "manage-bde"];
    for after in &places[..if is_fast() { 1 } else { 3 }] {
        let lab = Lab::new(|guest| {
            "on".clone_into(&mut guest.bitlocker);
            guest.objects.insert("{dbgsettings}".to_owned(), elements(&NET));
        });
        let before = lab.guest();
        lab.change(|guest| (*after).clone_into(&mut guest.hangs_after));
        let mut running = lab
            .sandbox
            .start(["guest", "windows", "--local", "--port", "1", "--yes"]);
        crate::kit::wait_until("the step hangs", || {
            lab.log()
                .iter()
                .any(|line| line.starts_with(*after))
                .then_some(())
        });
        running.signal("KILL");
        running.wait_end();
        lab.change(|guest| guest.hangs_after.clear());
        lab.done("undo --yes");
        assert_eq!(lab.guest(), before, "{after}");
    }
}

fn a_look_tells_what_is_missing() {
    let lab = Lab::new(|guest| {
        guest.secure_boot = Some(true);
        "on".clone_into(&mut guest.bitlocker);
    });
    let ended = lab.local("--show");
    insta::assert_snapshot!(ended.shown(&lab.sandbox));
    lab.change(|guest| guest.elevated = false);
    let low = lab.local("--show");
    assert!(low.stdout.contains("MISSING  rights"), "{low:?}");
    assert!(lab.log().is_empty());
}

fn a_profile_says_it_all() {
    let lab = Lab::new(|_| {});
    let profile = lab.sandbox.path("lab.yaml");
    let text = "version: 1\nhosts: {here: {hypervisor: vmware}}\ntargets:\n  win:\n    host: here\n    vm: /vm/win.vmx\n    \
        ports: [{port: 2, as: kd, attach: \"connect:tcp:127.0.0.1:7001\"}]\n    guest: {os: windows, boot_debug: true, ems: 1}\n";
    fs::write(&profile, text).unwrap();
    // Its way in is on the command line; what is wanted is the profile's.
    let by_hand = lab.run(&format!("guest windows {} --by-hand --plan", profile.display()));
    assert_eq!(by_hand.code, Some(0), "{by_hand:?}");
    insta::assert_snapshot!(by_hand.stdout);
    let wrong = text.replace("as: kd", "as: gdb");
    fs::write(&profile, wrong).unwrap();
    let refused = lab.run(&format!("guest windows {} --by-hand --plan", profile.display()));
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let linux = lab.run(&format!("guest linux {} --show", profile.display()));
    assert_eq!(linux.code, Some(3), "{linux:?}");
}
