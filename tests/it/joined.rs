//! Two VMs joined by one bridge, which both dial (Xen's `serial = "unix:…"`): any order and number of reboots of either.

use crate::bridge_rig::random;
use crate::control::Asker;
use crate::kit::{PATIENCE, Running, Sandbox, wait_until};
use libtest_mimic::Trial;
use serde_json::json;
use vmserial_testkit::faults::{Action, HypervisorEnd};

pub fn trials() -> Vec<Trial> {
    let orders = [
        (1, ["unix", "unix"]),
        (2, ["unix", "unix"]),
        (3, ["tcp", "unix"]),
        (4, ["unix", "tcp"]),
    ];
    orders
        .into_iter()
        .map(|(seed, kinds)| {
            let name = format!(
                "joined::{}_and_{}_in_the_order_of_seed_{seed}",
                kinds[0], kinds[1]
            );
            Trial::test(name, move || {
                reboots(seed, kinds);
                Ok(())
            })
        })
        .collect()
}

const STEPS: usize = 120;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

struct Vm {
    end: HypervisorEnd,
    up: bool,
    /// How the bridge tells of a connection, and how often it has so far.
    told: &'static str,
    boots: usize,
    gone: &'static str,
}

impl Vm {
    fn boot(&mut self, bridge: &mut Running) {
        self.end.play(&[Action::Connect]).unwrap();
        self.up = true;
        self.boots += 1;
        self.wait(bridge, self.told, self.boots);
    }

    fn go(&mut self, how: Action) {
        self.end.play(&[how]).unwrap();
        self.up = false;
    }

    fn wait(&self, bridge: &mut Running, line: &str, count: usize) {
        wait_until(&format!("`{line}` is said for the {count}. time"), || {
            (bridge.said().matches(line).count() >= count).then_some(())
        });
    }
}

fn reboots(seed: u64, kinds: [&str; 2]) {
    let sandbox = Sandbox::new();
    let endpoint = |kind: &str, name: &str| match kind {
        "tcp" => "listen:tcp:127.0.0.1:0".to_owned(),
        _ => sandbox.endpoint("listen:unix", name),
    };
    let mut bridge = sandbox.start([
        "-v".to_owned(),
        "bridge".into(),
        endpoint(kinds[0], "a"),
        endpoint(kinds[1], "b"),
    ]);
    bridge.wait_line("ready");
    let said = bridge.said();
    let dial = |kind: &str, name: &str, what: &str| match kind {
        "tcp" => {
            let line = said
                .lines()
                .find(|line| line.contains(&format!("listening {what} ")))
                .unwrap();
            HypervisorEnd::dial_tcp(line.rsplit_once("tcp:").unwrap().1.parse().unwrap(), PATIENCE)
        }
        _ => HypervisorEnd::dial_unix(sandbox.path(name), PATIENCE),
    };
    let mut vms = [
        ("a", "target", "target up", "target away"),
        ("b", "client 1", "client 1 attached", "client 1 detached"),
    ]
    .into_iter()
    .zip(kinds)
    .map(|((name, what, told, gone), kind)| Vm {
        end: dial(kind, name, what).unwrap(),
        up: false,
        told,
        boots: 0,
        gone,
    })
    .collect::<Vec<_>>();
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut asker = Asker::new(&sandbox);
    let mut dropped = [0, 0];
    for _ in 0..STEPS {
        let (which, size) = (numbers.below(2), 1 + numbers.below(20_000));
        let other = 1 - which;
        if !vms[which].up {
            vms[which].boot(&mut bridge);
            continue;
        }
        match numbers.below(5) {
            // They talk, if both are there; else it is said to nobody, and nobody gets it later.
            0 | 1 if vms[other].up => talk(&mut vms, size),
            0 | 1 => {
                // What TCP took for one that has just left is lost, and nobody can count it.
                let gone = &vms[other];
                gone.wait(&mut bridge, gone.gone, gone.boots);
                vms[which].end.play(&[Action::Send(random(size))]).unwrap();
                dropped[which] += size as u64;
                let counter = ["dropped_from_target", "dropped_to_target"][which];
                wait_until("what nobody gets is counted", || {
                    (asker.result("status", json!({}))[counter] == dropped[which]).then_some(())
                });
            }
            // It goes: its last words arrive, and whether it comes back at once is another number's matter.
            2 if vms[other].up => {
                let last_words = random(size);
                vms[which].end.play(&[Action::Send(last_words.clone())]).unwrap();
                vms[which].go(Action::Close);
                vms[other].end.play(&[Action::Expect(last_words)]).unwrap();
            }
            // It is back before anybody has seen that it was gone.
            3 => {
                vms[which].go(Action::Close);
                vms[which].boot(&mut bridge);
            }
            _ => {
                vms[which].go(Action::Close);
                let vm = &vms[which];
                vm.wait(&mut bridge, vm.gone, vm.boots);
            }
        }
    }
    for vm in vms.iter_mut().filter(|vm| !vm.up) {
        vm.boot(&mut bridge);
    }
    talk(&mut vms, 300_000);
    let status = asker.result("status", json!({}));
    let counted = [&status["dropped_from_target"], &status["dropped_to_target"]];
    assert_eq!(
        counted,
        [&json!(dropped[0]), &json!(dropped[1])],
        "nothing else is lost"
    );
    let open = std::fs::read_dir(format!("/proc/{}/fd", bridge.pid()))
        .unwrap()
        .count();
    assert!(
        open < 32,
        "{open} descriptors after {} boots",
        vms[0].boots + vms[1].boots
    );
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end_with_input_open(), 0);
}

fn talk(vms: &mut [Vm], size: usize) {
    let (question, answer) = (random(size), random(size / 2 + 1));
    let [a, b] = vms else { unreachable!("two VMs") };
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| {
            a.end
                .play(&[Action::Send(question.clone()), Action::Expect(answer.clone())])
        });
        b.end
            .play(&[Action::Expect(question.clone()), Action::Send(answer.clone())])
            .unwrap();
        playing.join().unwrap().unwrap();
    });
}
