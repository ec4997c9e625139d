//! Where there is no way into a guest: the lines that somebody types there, and what the wire shows when they worked.

use super::live::LiveWish;
use crate::model::{FailureKind, Problem};

/// Returns the lines to type as root, for a wish with a port for kgdb. The last one says on that port what is set, behind the
/// mark.
pub fn lines(wish: &LiveWish, mark: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut says = Vec::new();
    if let Some((tty, baud)) = &wish.kgdb {
        lines.push("test -d /sys/module/kgdboc || modprobe kgdboc".to_owned());
        lines.push(format!(
            "echo {tty},{baud} > /sys/module/kgdboc/parameters/kgdboc"
        ));
        says.push("/sys/module/kgdboc/parameters/kgdboc");
    }
    if wish.sysrq {
        lines.push("echo 1 > /proc/sys/kernel/sysrq".to_owned());
        says.push("/proc/sys/kernel/sysrq");
    }
    if let Some(level) = wish.log_level {
        lines.push(format!("dmesg -n {level}"));
    }
    if let Some(tty) = &wish.no_echo {
        lines.push(format!("stty -F /dev/{tty} -echo"));
    }
    if wish.keep_sysrq {
        lines.push("echo 'kernel.sysrq = 1' > /etc/sysctl.d/90-vmserial.conf".to_owned());
    }
    if let Some((tty, _)) = &wish.kgdb {
        lines.push(format!("(echo {mark}; cat {}) > /dev/{tty}", says.join(" ")));
    }
    lines
}

/// Tells whether what came over the port shows that the lines worked. `None`: not yet.
///
/// # Errors
///
/// The last line came, and something is not as it was wanted.
pub fn verify(wish: &LiveWish, mark: &str, heard: &[u8]) -> Option<Result<(), Problem>> {
    let text = String::from_utf8_lossy(heard).into_owned();
    let (_, after) = text.rsplit_once(mark)?;
    let mut wanted = Vec::new();
    wanted.extend(
        wish.kgdb
            .as_ref()
            .map(|(tty, baud)| ("kgdboc", format!("{tty},{baud}"))),
    );
    if wish.sysrq {
        wanted.push(("kernel.sysrq", "1".to_owned()));
    }
    // The rest of the marked line, then a line for each; the last one is whole when its end has come.
    let lines: Vec<&str> = after.split('\n').skip(1).collect();
    if lines.len() <= wanted.len() {
        return None;
    }
    for ((name, value), line) in wanted.iter().zip(&lines) {
        let line = line.trim();
        if line != value {
            let message = format!("the guest says that {name} is `{line}`, not `{value}`");
            return Some(Err(Problem::new(FailureKind::Precondition, message)
                .hint("Type the lines again as root, and read what they answer.")));
        }
    }
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn wish() -> LiveWish {
        LiveWish {
            kgdb: Some(("ttyS1".to_owned(), 115_200)),
            sysrq: true,
            log_level: Some(8),
            ..LiveWish::default()
        }
    }

    #[test]
    fn the_lines_are_exact() {
        assert_eq!(
            lines(&wish(), "vmserial-1"),
            [
                "test -d /sys/module/kgdboc || modprobe kgdboc",
                "echo ttyS1,115200 > /sys/module/kgdboc/parameters/kgdboc",
                "echo 1 > /proc/sys/kernel/sysrq",
                "dmesg -n 8",
                "(echo vmserial-1; cat /sys/module/kgdboc/parameters/kgdboc /proc/sys/kernel/sysrq) > /dev/ttyS1",
            ]
        );
    }

    #[test]
    fn the_wire_shows_whether_they_worked() {
        let of = |heard: &str| {
            verify(&wish(), "vmserial-1", heard.as_bytes())
                .map(|result| result.map_err(|problem| problem.message))
        };
        assert_eq!(of("boot\r\n"), None);
        assert_eq!(of("vmserial-1\r\nttyS1,115200\r\n"), None);
        assert_eq!(of("x\r\nvmserial-1\r\nttyS1,115200\r\n1\r\n"), Some(Ok(())));
        assert_eq!(
            of("vmserial-1\r\nttyS1,115200\r\n438\r\n"),
            Some(Err(
                "the guest says that kernel.sysrq is `438`, not `1`".to_owned()
            ))
        );
        // Typed again: the newest counts.
        assert_eq!(
            of("vmserial-1\r\n\r\n438\r\nvmserial-1\r\nttyS1,115200\r\n1\r\n"),
            Some(Ok(()))
        );
        assert!(of("vmserial-1\r\n\r\n1\r\n").unwrap().is_err());
    }
}
