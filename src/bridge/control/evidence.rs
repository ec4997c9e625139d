//! What a kernel prints when a break-in worked. Pure; independent of how the text is cut into chunks.

/// The debugger that the kernel stopped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoppedIn {
    /// Waits for gdb.
    Kgdb,
    /// At kdb's prompt.
    Kdb,
}

/// The words of `kernel/debug/debug_core.c`, `gdbstub.c` and `kdb/kdb_main.c`.
const SIGNS: [(&str, StoppedIn); 4] = [
    ("KGDB or $3#33 for KDB", StoppedIn::Kgdb),
    ("Waiting for connection from remote gdb", StoppedIn::Kgdb),
    ("Entering KGDB", StoppedIn::Kgdb),
    ("Entering kdb (", StoppedIn::Kdb),
];

/// Looks for the signs in a stream.
#[derive(Debug, Default)]
pub struct Watcher {
    tail: Vec<u8>,
}

impl Watcher {
    /// Takes the next chunk; returns the sign that it completes.
    pub fn input(&mut self, chunk: &[u8]) -> Option<(&'static str, StoppedIn)> {
        let longest = SIGNS.iter().map(|(sign, _)| sign.len()).max().unwrap_or(1);
        self.tail.extend_from_slice(chunk);
        let found = SIGNS
            .into_iter()
            .filter_map(|(sign, kind)| {
                let at = self
                    .tail
                    .windows(sign.len())
                    .position(|window| window == sign.as_bytes())?;
                Some((at, sign, kind))
            })
            .min_by_key(|(at, ..)| *at)
            .map(|(_, sign, kind)| (sign, kind));
        let keep = self.tail.len().min(longest - 1);
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STOP: &[u8] = b"[    9.1] sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n";

    #[test]
    fn the_banners_of_both_debuggers_are_signs() {
        let sign = |text: &[u8]| Watcher::default().input(text).map(|(_, kind)| kind);
        assert_eq!(sign(STOP), Some(StoppedIn::Kgdb));
        assert_eq!(
            sign(
                b"\r\nEntering kdb (current=0xffff, pid 0) on processor 0 due to Keyboard Entry\r\n[0]kdb> "
            ),
            Some(StoppedIn::Kdb)
        );
        assert_eq!(sign(b"Entering kdb \r\nsysrq: HELP : debug(g)\r\n"), None);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(cut in 0usize..STOP.len()) {
            let mut watcher = Watcher::default();
            let first = watcher.input(&STOP[..cut]);
            let second = watcher.input(&STOP[cut..]);
            prop_assert_eq!(first.or(second), Some(("Entering KGDB", StoppedIn::Kgdb)));
        }
    }
}
