//! What is known of the kernel, and the texts on its console that tell of a stop.

/// What is known of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelState {
    /// Not known: counts as running.
    Unknown,
    /// Runs.
    Running,
    /// Stopped in kgdb.
    Stopped,
    /// At kdb's prompt: counts as running for keys and text.
    Kdb,
}

/// Something that a kernel says when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `KGDB: Entering KGDB`: stopped, and no gdb was connected before (kernel/debug/debug_core.c).
    EnteringKgdb,
    /// `KGDB: Waiting for connection from remote gdb...` (`kgdbwait`).
    WaitingForGdb,
    /// `KGDB: KGDB or $3#33 for KDB`: stopped in kgdb, a kdb is built in.
    KgdbOrKdb,
    /// `Entering kdb (`: stopped, the prompt follows.
    EnteringKdb,
    /// The prompt `kdb> ` or `[0]kdb> ` at the start of a line.
    KdbPrompt,
}

const SIGNS: [(&[u8], Sign); 5] = [
    (b"Entering KGDB", Sign::EnteringKgdb),
    (b"Waiting for connection from remote gdb", Sign::WaitingForGdb),
    (b"KGDB or $3#33 for KDB", Sign::KgdbOrKdb),
    (b"Entering kdb (", Sign::EnteringKdb),
    (b"kdb> ", Sign::KdbPrompt),
];

/// No sign is longer, nor is what must be seen of a line to know whether kgdb wrote it.
const LINE_KEPT: usize = 128;

/// Something seen in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A sign.
    Sign(Sign),
    /// A line that began after [`TextWatch::stopped`] has ended, and it is not kgdb's own (`KGDB: BP remove failed: …`).
    Line,
    /// SysRq has taken a key (drivers/tty/sysrq.c), whatever it makes of it.
    SysRq,
}

/// What SysRq says first, in kernels of today and of before 4.20.
const SYSRQ: [&[u8]; 2] = [b"sysrq: ", b"SysRq : "];

/// Watches a stream of text for signs and for lines that a stopped kernel cannot write.
#[derive(Debug, Default)]
pub struct TextWatch {
    /// The current line's start.
    line: Vec<u8>,
    /// The current line began before the stop.
    old: bool,
    /// Bytes since the last line's end.
    length: usize,
}

impl TextWatch {
    /// Takes one byte.
    pub fn feed(&mut self, byte: u8) -> Option<Seen> {
        if byte == b'\n' || byte == b'\r' {
            let kgdb = contains(&self.line, b"KGDB: BP ");
            let whole = self.length > 0 && !self.old && !kgdb && byte == b'\n';
            if byte == b'\n' {
                self.line.clear();
                self.length = 0;
                self.old = false;
            }
            return whole.then_some(Seen::Line);
        }
        self.length += 1;
        if self.line.len() == LINE_KEPT {
            self.line.drain(..LINE_KEPT / 2);
        }
        self.line.push(byte);
        if SYSRQ.iter().any(|text| self.line.ends_with(text)) {
            return Some(Seen::SysRq);
        }
        let (_, sign) = SIGNS.iter().find(|(text, _)| self.line.ends_with(text))?;
        let prompt = self.length == 5 || self.line.ends_with(b"]kdb> ");
        (*sign != Sign::KdbPrompt || prompt).then_some(Seen::Sign(*sign))
    }

    /// The kernel stopped here: a line that has begun is not one that a reset machine writes.
    pub fn stopped(&mut self) {
        self.old = self.length > 0;
    }

    /// Tells whether a line is being written that began after [`TextWatch::stopped`].
    pub fn writes_new_line(&self) -> bool {
        self.length > 0 && !self.old
    }

    /// The stream ended; what comes next starts a line.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> Vec<Seen> {
        let mut watch = TextWatch::default();
        text.bytes().filter_map(|byte| watch.feed(byte)).collect()
    }

    #[test]
    fn signs_are_seen_where_kernels_write_them() {
        let table: [(&str, &[Sign]); 8] = [
            ("sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n", &[Sign::EnteringKgdb]),
            (
                "KGDB: Waiting for connection from remote gdb...\r\n",
                &[Sign::WaitingForGdb],
            ),
            ("KGDB: KGDB or $3#33 for KDB\r\n", &[Sign::KgdbOrKdb]),
            (
                "\r\nEntering kdb (current=0x0, pid 0) due to NonMaskable Interrupt @ 0x0\r\nkdb> ",
                &[Sign::EnteringKdb, Sign::KdbPrompt],
            ),
            ("[0]kdb> ", &[Sign::KdbPrompt]),
            ("Entering please attach debugger or use $D#44+ or $3#33", &[]),
            ("echo kdb> x", &[]),
            ("Entering KGD\nB", &[]),
        ];
        for (text, signs) in table {
            let seen: Vec<Sign> = watch(text)
                .into_iter()
                .filter_map(|seen| {
                    if let Seen::Sign(sign) = seen {
                        Some(sign)
                    } else {
                        None
                    }
                })
                .collect();
            assert_eq!(seen, signs, "{text:?}");
        }
    }

    #[test]
    fn a_line_counts_when_it_began_after_the_stop() {
        let mut watch = TextWatch::default();
        let lines = |watch: &mut TextWatch, text: &str| {
            text.bytes()
                .filter(|byte| watch.feed(*byte) == Some(Seen::Line))
                .count()
        };
        assert_eq!(lines(&mut watch, "KGDB: Entering KGDB"), 0);
        watch.stopped();
        assert_eq!(lines(&mut watch, "\r\n\r\n"), 0);
        assert_eq!(
            lines(&mut watch, "KGDB: BP remove failed: ffffffff8115c73e\r\n"),
            0
        );
        assert_eq!(lines(&mut watch, "Linux version 6.1"), 0);
        assert_eq!(lines(&mut watch, "\n"), 1);
        watch.stopped();
        assert_eq!(lines(&mut watch, "x\n"), 1);
    }

    #[test]
    fn a_long_line_hides_no_sign() {
        let text = format!("{}KGDB: Entering KGDB", "x".repeat(1000));
        assert_eq!(watch(&text), [Seen::Sign(Sign::EnteringKgdb)]);
    }
}
