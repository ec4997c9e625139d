//! Mount namespaces of a trial's own: what is mounted there is nowhere else on the machine.

use crate::kit::finish;
use libtest_mimic::{Completion, Failed, Trial};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// How a namespace is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By root as itself: also where no user namespace can be made, as in a chroot.
    Root,
    /// By anybody, as the root of a user namespace of its own.
    User,
}

/// What trials mount: disks and single folders over the machine's own.
const PROBE: &str =
    "mount -t tmpfs none /mnt && mount -t tmpfs none /etc && mount --bind /mnt /proc/sys/kernel";

impl Way {
    /// The way that works here.
    pub fn here() -> Option<Self> {
        static HERE: OnceLock<Option<Way>> = OnceLock::new();
        *HERE.get_or_init(|| [Self::Root, Self::User].into_iter().find(|way| way.works()))
    }

    fn works(self) -> bool {
        let mut probe = self.unshare();
        finish(probe.args(["sh", "-c", PROBE]), b"").code == Some(0)
    }

    /// The words in front of a program that is to run in a namespace of its own, with root's rights there.
    pub fn words(self) -> Vec<&'static str> {
        let mut words = vec!["unshare", "--mount", "--propagation", "private"];
        if self == Self::User {
            words.push("--map-root-user");
        }
        words
    }

    /// The same as a command without its program.
    pub fn unshare(self) -> Command {
        command(&self.words().join(" "))
    }

    /// The words in front of a program that is to run in the namespace of a process. Its root is entered too: that of the tests
    /// may be another one than the namespace's first.
    pub fn enter(self, pid: u32) -> String {
        let user = match self {
            Self::Root => "",
            Self::User => " --user --preserve-credentials",
        };
        format!("nsenter{user} --mount --root --target {pid}")
    }

    /// The words in front of a program that is to run as somebody who is not root, outside of any trial's mounts.
    pub fn nobody(self) -> &'static str {
        match self {
            Self::Root => "setpriv --reuid 65534 --regid 65534 --clear-groups",
            Self::User => "unshare --map-user=1000 --map-group=1000 --mount",
        }
    }
}

/// Why no trial can have a namespace; `None` if it can.
pub fn missing() -> Option<String> {
    Way::here()
        .is_none()
        .then(|| "this user may not mount a disk in a namespace of its own".to_owned())
}

/// The way that works here, for a trial that is not run where there is [`missing`] one.
pub fn way() -> Way {
    Way::here().expect("there is a way, or the trial is skipped")
}

/// A command of the words of a line, none of which is quoted.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// The command in a namespace of its own, after a script whose `$1`, `$2`, … are the paths.
pub fn inside(inner: &Command, script: &str, paths: &[&Path]) -> Command {
    after(way().unshare(), inner, script, paths)
}

/// The command after a script; the first one starts the shell.
pub fn after(mut command: Command, inner: &Command, script: &str, paths: &[&Path]) -> Command {
    let script = format!("{script} && shift {} && exec \"$@\"", paths.len());
    command.args(["sh", "-c", &script, "sh"]).args(paths);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = inner.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

pub fn trials() -> Vec<Trial> {
    let trial = Trial::ignorable_test("namespace::nothing_of_it_is_on_the_machine", || {
        if let Some(reason) = missing() {
            return Ok(Completion::ignored_with(reason));
        }
        nothing_of_it_is_on_the_machine();
        Ok::<_, Failed>(Completion::Completed)
    });
    vec![trial]
}

/// Each way that works here, so that the other one is tried too wherever it can be.
fn nothing_of_it_is_on_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    for way in [Way::Root, Way::User].into_iter().filter(|way| way.works()) {
        let script = "mount -t tmpfs own \"$1\" && touch \"$1\"/inside && mkfifo \"$1\"/end && echo $$ && exec cat \"$1\"/end";
        let mut holder =
            crate::kit::Running::start(way.unshare().args(["sh", "-ec", script, "sh"]).arg(folder.path()));
        let said = holder.wait_output(b"\n");
        let pid: u32 = String::from_utf8(said).unwrap().trim().parse().unwrap();
        assert_eq!(pid, holder.pid(), "what is entered is what was started");
        let inside = finish(command(&way.enter(pid)).arg("ls").arg(folder.path()), b"");
        assert_eq!(inside.stdout, "end\ninside\n", "{way:?}: {inside:?}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{way:?}");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&*folder.path().to_string_lossy()), "{way:?}");
        let who = finish(command(way.nobody()).args(["id", "-u"]), b"");
        assert!(
            who.code == Some(0) && who.stdout.trim() != "0",
            "{way:?}: {who:?}"
        );
        holder.signal("KILL");
        holder.wait_end();
    }
}
