//! An OpenSSH server with users who have a password: PAM and the lists of users as a test wants them, in a mount namespace of
//! the server's own, so that nothing of the machine changes.

use crate::kit::{Sandbox, finish};
use crate::namespace::Way;
use crate::sshd::Sshd;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// A user with root's rights.
pub const ADMIN: &str = "vsadmin";

/// A user with no rights but by `sudo`.
pub const USER: &str = "vsuser";

/// The password of both. Nothing else on the machine says it, and a shell would take it apart.
pub const PASSWORD: &str = "w0rd of 'vs' $HOME \"é\" #7";

/// One password.
pub const ONE_QUESTION: &str = "auth required pam_unix.so nodelay\n";

/// A guest's question, whose answer does not matter, then the password. Two modules of PAM, so two rounds.
pub const TWO_QUESTIONS: &str =
    "auth required pam_ftp.so users=vsadmin ignore\nauth required pam_unix.so nodelay\n";

/// Why there can be no such server here; `None` if there can.
pub fn missing() -> Option<String> {
    (Way::here() != Some(Way::Root)).then(|| {
        "only root with a mount namespace of its own can start an sshd with users of its own".to_owned()
    })
}

/// Starts a server on which the users are; `auth` is what PAM asks of them, `more` stands first in `sshd_config`.
pub fn start(sandbox: &Sandbox, auth: &str, more: &str) -> Sshd {
    let folder = sandbox.path("etc");
    fs::create_dir(&folder).unwrap();
    let mut hash = Command::new("openssl");
    hash.args(["passwd", "-6", "-stdin"]);
    let hash = finish(&mut hash, PASSWORD.as_bytes());
    assert_eq!(hash.code, Some(0), "{hash:?}");
    let hash = hash.stdout.trim();
    let put = |name: &str, text: &str, mode: u32| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let system = |name: &str| fs::read_to_string(format!("/etc/{name}")).unwrap();
    put(
        "passwd",
        &format!(
            "{}{ADMIN}:x:0:0::/:/bin/sh\n{USER}:x:64801:65534::/:/bin/sh\n",
            system("passwd")
        ),
        0o644,
    );
    put(
        "shadow",
        &format!(
            "{}{ADMIN}:{hash}:19000:0:99999:7:::\n{USER}:{hash}:19000:0:99999:7:::\n",
            system("shadow")
        ),
        0o600,
    );
    let rest = "account required pam_unix.so\nsession required pam_permit.so\n";
    put("sshd", &format!("{auth}{rest}"), 0o644);
    put("sudo", &format!("{ONE_QUESTION}{rest}"), 0o644);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("far").display());
    put(
        "sudoers",
        &format!(
            "Defaults secure_path=\"{path}\", lecture=never, timestamp_timeout=0, !syslog, env_keep+=VMSERIAL_HOST_FOLDER\n{USER} ALL=(ALL) ALL\n"
        ),
        0o440,
    );
    let here = folder.display();
    let mut enter = "set -e\n".to_owned();
    for (name, place) in [
        ("passwd", "passwd"),
        ("shadow", "shadow"),
        ("sshd", "pam.d/sshd"),
        ("sudo", "pam.d/sudo"),
        ("sudoers", "sudoers"),
    ] {
        enter.push_str(&format!("mount --bind '{here}/{name}' /etc/{place}\n"));
    }
    enter.push_str("exec \"$@\"\n");
    put("enter", &enter, 0o644);
    let enter = folder.join("enter").display().to_string();
    let around = Way::Root.words().into_iter().chain(["sh", &enter]);
    Sshd::start_by(
        sandbox,
        &format!("{more}UsePAM yes\nPermitRootLogin yes\nSetEnv PATH={path}\n"),
        around.map(str::to_owned).collect(),
    )
}
