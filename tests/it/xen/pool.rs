//! A pool of three hosts with fifty VMs, each host behind an OpenSSH server of its own, set up by one command.

use super::{Host, NOTHING};
use crate::kit::{Sandbox, is_fast, wait_until};
use crate::sshd::{QUICK_SHELL, Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "its fifty VMs are left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let trial = |name: &str, run: fn()| {
        let reason = missing().or_else(left_out);
        Trial::ignorable_test(format!("xen::{name}"), move || match reason {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => {
                run();
                Ok::<_, Failed>(Completion::Completed)
            }
        })
    };
    vec![
        trial("a_pool_is_set_up_in_one_command", a_pool_is_set_up_in_one_command),
        trial(
            "a_host_that_hangs_does_not_hold_up_the_others",
            a_host_that_hangs_does_not_hold_up_the_others,
        ),
        trial(
            "a_pool_that_is_interrupted_is_undone",
            a_pool_that_is_interrupted_is_undone,
        ),
    ]
}

const HOSTS: usize = 3;
const VMS: usize = 50;
/// It is suspended.
const SUSPENDED: usize = 7;
/// xapi knows no such VM.
const ABSENT: usize = 40;

struct Pool {
    host: Host,
    servers: Vec<Sshd>,
    // The servers' keys and configurations.
    _folders: Vec<Sandbox>,
}

fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

impl Pool {
    fn new() -> Self {
        let host = Host::new("xe");
        let pool = host.state.clone();
        for number in (1..=VMS).filter(|&number| number != ABSENT) {
            host.vm(&uuid(number), &format!("vm{number:02}"));
        }
        host.set(&uuid(SUSPENDED), "power-state", "suspended");
        host.set(&uuid(SUSPENDED), "resident-on", NOTHING);
        let mut config = String::new();
        let (mut servers, mut folders) = (Vec::new(), Vec::new());
        for number in 1..=HOSTS {
            // Each host's tools see the pool's one database.
            let far = host.sandbox.path(&format!("far{number}"));
            fs::create_dir(&far).unwrap();
            for tool in ["xe", "xenstore-read"] {
                symlink(std::env::current_exe().unwrap(), far.join(tool)).unwrap();
            }
            symlink(&pool, far.join("xen.state")).unwrap();
            let folder = Sandbox::new();
            let path = format!("{}:/usr/local/bin:/usr/bin:/bin", far.display());
            servers.push(Sshd::start_with(
                &folder,
                &format!("SetEnv PATH={path} {QUICK_SHELL}\n"),
            ));
            let text = fs::read_to_string(folder.path("ssh/config")).unwrap();
            let rest = text.split_once("Host *\n").unwrap().1;
            let port = servers[number - 1].port;
            writeln!(
                config,
                "Host xcp{number}\n HostName 127.0.0.1\n Port {port}\n{rest}"
            )
            .unwrap();
            folders.push(folder);
        }
        // This machine has an `ssh` that knows all three, and no `xe`.
        for tool in ["xe", "xenstore-read"] {
            fs::remove_file(host.sandbox.path("bin").join(tool)).unwrap();
        }
        fs::write(host.sandbox.path("ssh.config"), config).unwrap();
        let ssh = host.sandbox.path("bin/ssh");
        let config = host.sandbox.path("ssh.config");
        let text = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display());
        fs::write(&ssh, text).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&ssh, executable).unwrap();
        let mut profile = String::from("version: 1\nhosts:\n");
        for number in 1..=HOSTS {
            writeln!(profile, "  xcp{number}: {{hypervisor: xen, ssh: xcp{number}}}").unwrap();
        }
        profile.push_str("targets:\n");
        for number in 1..=VMS {
            let (home, port) = (number % HOSTS + 1, 7000 + number);
            writeln!(
                profile,
                "  vm{number:02}: {{host: xcp{home}, vm: vm{number:02}, ports: [{{port: 1, as: kd, attach: \"listen:tcp:127.0.0.1:{port}\", tunnel: ssh}}]}}"
            )
            .unwrap();
        }
        fs::write(host.sandbox.path("lab.yaml"), profile).unwrap();
        Self {
            host,
            servers,
            _folders: folders,
        }
    }

    /// Applies the profile, and follows it through so many steps: how it ended and what it said.
    fn apply(&self, steps: usize) -> (i32, String) {
        let mut apply = self.host.sandbox.start(["apply", "lab.yaml", "--yes"]);
        for step in 1..=steps {
            apply.wait_line(&format!("[{step}/{steps}] "));
        }
        let code = apply.wait_end_with_input_open();
        (code, apply.said())
    }

    /// Takes the newest apply back.
    fn undo(&self) {
        let undone = self.host.undo();
        assert_eq!(undone.code, Some(0), "{undone:?}");
    }

    fn set(&self) -> usize {
        (1..=VMS).filter(|&number| self.is_set(number)).count()
    }

    fn is_set(&self, number: usize) -> bool {
        let key = format!("vms/{}/platform/hvm_serial", uuid(number));
        fs::read_to_string(self.host.state.join(key))
            .is_ok_and(|value| value == format!("tcp:127.0.0.1:{},server,nodelay,nowait", 7000 + number))
    }

    fn logins(&self) -> Vec<usize> {
        self.servers.iter().map(Sshd::logins).collect()
    }
}

fn a_pool_is_set_up_in_one_command() {
    let pool = Pool::new();
    let (code, said) = pool.apply(96);
    assert_eq!(code, 9, "{said}");
    for part in [
        "2 of 50 targets failed",
        "vm07: the VM `vm07` is suspended",
        "vm40: xapi knows no VM `vm40`",
        "`vm40` is left out",
        "Looking at 50 targets on 3 hosts.",
        // Two steps for each of the others, told one by one, with how far each host is.
        "vm01 (xcp2 1/30): attach port 1",
        "vm50 (xcp3 34/34): mark the VM",
        "[96/96] ",
    ] {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    for number in 1..=VMS {
        let expected = ![SUSPENDED, ABSENT].contains(&number);
        assert_eq!(pool.is_set(number), expected, "vm{number:02}");
    }
    let logins = pool.logins();
    assert!(
        logins.iter().all(|&logins| (1..=2).contains(&logins)),
        "a connection for each host, or two where it is slow: {logins:?}"
    );
    // What stood against them is mended: they are set up, the others are left alone.
    pool.host.set(&uuid(SUSPENDED), "power-state", "halted");
    pool.host.vm(&uuid(ABSENT), "vm40");
    let (code, said) = pool.apply(4);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("[4/4] vm40: mark"), "{said}");
    assert_eq!(pool.set(), VMS);
    let (code, said) = pool.apply(0);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Nothing to change."), "{said}");
    // The newest apply is taken back, and only that.
    pool.undo();
    assert_eq!(pool.set(), VMS - 2);
}

/// The first nine VMs, `vm0*`.
const FEW: usize = 9;

/// Those of a host: `vm03`, `vm06` and `vm09` are at home on the first.
fn of_host(host: usize) -> Vec<usize> {
    (1..=FEW).filter(|number| number % HOSTS + 1 == host).collect()
}

/// Hosts that wait for nobody: two are done while the third has not made its first change. A VM that fails on its way is told
/// at the end, and its host goes on with the others.
fn a_host_that_hangs_does_not_hold_up_the_others() {
    let pool = Pool::new();
    pool.host.set(&uuid(SUSPENDED), "power-state", "halted");
    let stuck = pool.host.sandbox.path("far1/xen.faults");
    fs::write(&stuck, "hangs-before-set").unwrap();
    // It runs, and its guest cannot shut down.
    let xe = pool.host.sandbox.path("far3/xe");
    let mut start = std::process::Command::new(xe);
    start.args(["vm-start", &format!("uuid={}", uuid(2))]);
    let started = crate::kit::finish(&mut start, b"");
    assert_eq!(started.code, Some(0), "{started:?}");
    fs::write(pool.host.sandbox.path("far3/xen.faults"), "no-tools").unwrap();
    let words = ["apply", "lab.yaml", "vm0*", "--yes", "--restart", "graceful"];
    let mut apply = pool.host.sandbox.start(words);
    for host in [2, 3] {
        for number in of_host(host).into_iter().filter(|number| *number != 2) {
            wait_until("the other hosts are done", || pool.is_set(number).then_some(()));
        }
    }
    assert!(of_host(1).into_iter().all(|number| !pool.is_set(number)));
    fs::remove_file(&stuck).unwrap();
    assert_eq!(apply.wait_end_with_input_open(), 9, "{}", apply.said());
    let said = apply.said();
    for part in [
        "1 of 9 targets failed",
        "vm02: ",
        "cooperative shutdown feature",
        "`vmserial undo ",
    ] {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    assert_eq!(pool.set(), FEW - 1);
    // What failed is not in force, all else is, and the entry can be taken back.
    pool.undo();
    assert_eq!(pool.set(), 0);
}

/// Ctrl-C ends the running steps of all hosts and starts nothing new; what was done is in the journal, and taken back.
fn a_pool_that_is_interrupted_is_undone() {
    let pool = Pool::new();
    pool.host.set(&uuid(SUSPENDED), "power-state", "halted");
    let faults = |host: usize| pool.host.sandbox.path(&format!("far{host}/xen.faults"));
    // Each host is stuck at its first change, after it was made.
    for host in 1..=HOSTS {
        fs::write(faults(host), "hangs-after-set").unwrap();
    }
    let mut apply = pool.host.sandbox.start(["apply", "lab.yaml", "vm0*", "--yes"]);
    for host in 1..=HOSTS {
        let first = of_host(host)[0];
        wait_until("each host is at its first step", || {
            pool.is_set(first).then_some(())
        });
    }
    apply.signal("INT");
    for host in 1..=HOSTS {
        fs::remove_file(faults(host)).unwrap();
    }
    assert_eq!(apply.wait_end_with_input_open(), 130, "{}", apply.said());
    let said = apply.said();
    assert!(
        said.contains("interrupted: no further step was started"),
        "{said}"
    );
    assert!(said.contains("`vmserial undo "), "{said}");
    assert_eq!(pool.set(), HOSTS, "{said}");
    // The journal knows the step of each host, and takes all of them back.
    pool.undo();
    assert_eq!(pool.set(), 0);
    let again = pool.host.undo();
    assert!(again.stderr.contains("Nothing to undo"), "{again:?}");
}
