//! The promise of a shared port as a check that takes any bytes: consoles and gdb share out what the target sends, each
//! byte to one side or counted, in its order, however it is cut and whatever else happens. Driven by a property test and
//! by the fuzz target in `fuzz/`.

use crate::rsp::framing::{self, packet};
use crate::rsp::{Config, Event, Input, Machine, Output, PortKind, WhenGdbDies};
use std::time::{Duration, Instant};

/// What targets send, so that any bytes soon make a whole conversation.
const TARGET: [&str; 24] = [
    "+",
    "-",
    "$ ",
    "$",
    "#42",
    "tick 3 $5 + 3 - 1 #42\r\n",
    "user@host:~$ ",
    "$T05thread:1b;#39",
    "$T05thr",
    "ead:1b;#39",
    "$S05#b8",
    "$OK#9a",
    "$OK#9b",
    "$#00",
    "$E16#ac",
    "$O6b0a#78",
    "$W01#b8",
    "+$OK#9a",
    "KGDB: Entering KGDB\r\n",
    "KGDB: Waiting for connection from remote gdb...\r\n",
    "KGDB: KGDB or $3#33 for KDB\r\n",
    "\r\nEntering kdb (current=0x0, pid 0)\r\nkdb> ",
    "a line\r\n",
    "\r",
];

/// What gdb sends; packets get their frame.
const GDB: [&str; 12] = [
    "qSupported:xmlRegisters=i386",
    "?",
    "g",
    "m0,8",
    "Z0,ffffffff8103a38d,1",
    "z0,ffffffff8103a38d,1",
    "P10=8da30381ffffffff",
    "c",
    "s",
    "D",
    "k",
    "3",
];

/// Checks one story: `script` is read as what happens from `start` on, one step after the other.
///
/// # Errors
///
/// The first byte of the target that went to the wrong side, to both, to none or out of its order.
pub fn check(start: Instant, script: &[u8]) -> Result<(), String> {
    let mut script = script.iter().copied();
    let Some(flags) = script.next() else {
        return Ok(());
    };
    let mut story = Story::new(start, flags);
    while let Some(byte) = script.next() {
        let (kind, number) = (byte >> 5, usize::from(byte & 0x1f));
        match kind {
            0 | 1 => {
                let text = TARGET[usize::from(byte & 0x3f) % TARGET.len()];
                story.target(text.as_bytes())?;
            }
            2 => {
                let bytes: Vec<u8> = script.by_ref().take(number).collect();
                story.target(&bytes)?;
            }
            3 => {
                let bytes: Vec<u8> = script.by_ref().take(number).collect();
                story.target(&packet(&bytes))?;
            }
            4 => story.gdb(&packet(GDB[number % GDB.len()].as_bytes()))?,
            5 => match number % 8 {
                0..4 => story.gdb(b"+")?,
                4 => story.gdb(b"-")?,
                5 => story.gdb(&[framing::INTERRUPT])?,
                _ => story.gdb(&script.by_ref().take(3).collect::<Vec<u8>>())?,
            },
            6 => story.wait(Duration::from_millis(
                [1, 60, 120, 310, 600, 1600, 2500, 11_000][number % 8],
            ))?,
            _ => story.event(number)?,
        }
    }
    story.target_goes()
}

/// A machine of a shared port and what was given to it.
struct Story {
    machine: Machine,
    now: Instant,
    /// Of the target's bytes: those that nobody has yet.
    pending: Vec<u8>,
    /// What gdb got of the target.
    gdb_stream: Vec<u8>,
    attached: bool,
    up: bool,
    /// gdb is answered by us: what it gets is not the target's.
    gone: bool,
    /// The target has agreed to leave acknowledgements out: bytes pass as they are.
    transparent: bool,
    break_works: bool,
}

impl Story {
    fn new(now: Instant, flags: u8) -> Self {
        let mut config = Config::new(PortKind::Shared);
        config.can_break = flags & 1 == 0;
        if flags & 2 != 0 {
            config.when_gdb_dies = WhenGdbDies::Free;
        }
        let mut story = Self {
            machine: Machine::new(config),
            now,
            pending: Vec::new(),
            gdb_stream: Vec::new(),
            attached: false,
            up: true,
            gone: false,
            transparent: false,
            break_works: flags & 4 == 0,
        };
        // It sends nothing yet, so there is nothing to check.
        story.machine.handle(story.now, Input::TargetUp, &mut Vec::new());
        story
    }

    fn give(&mut self, input: Input<'_>) -> Result<(), String> {
        let mut outputs = Vec::new();
        self.machine.handle(self.now, input, &mut outputs);
        let mut breaks = 0;
        for output in outputs {
            match output {
                Output::ToConsole(bytes) => self.take(&bytes, "the console")?,
                // With no target there, whatever gdb gets is ours.
                Output::ToGdb(bytes) if self.up && !self.gone => {
                    self.take(&bytes, "gdb")?;
                    self.gdb_stream.extend(bytes);
                }
                Output::Dropped(count) if count > self.pending.len() => {
                    return Err(format!("{count} dropped of {} bytes", self.pending.len()));
                }
                Output::Dropped(count) => drop(self.pending.drain(..count)),
                Output::Event(Event::KernelGone { .. }) => self.gone = true,
                Output::CloseGdb { .. } => self.attached = false,
                Output::SendBreak => breaks += 1,
                _ => {}
            }
        }
        self.gone |= self.machine.kernel_is_gone();
        self.transparent |= self.machine.is_transparent();
        for _ in 0..breaks {
            let result = if self.break_works {
                Ok(())
            } else {
                Err("no".to_owned())
            };
            self.give(Input::BreakSent(result))?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], whom: &str) -> Result<(), String> {
        if !self.pending.starts_with(bytes) {
            return Err(format!(
                "{whom} got `{}` where the target sent `{}`",
                bytes.escape_ascii(),
                self.pending.escape_ascii()
            ));
        }
        self.pending.drain(..bytes.len());
        Ok(())
    }

    fn target(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !self.up {
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        self.give(Input::TargetBytes(bytes))?;
        // Nothing but what may still become a packet is kept back.
        if self.pending.is_empty() || self.pending.starts_with(b"$") {
            Ok(())
        } else {
            Err(format!("`{}` is nobody's", self.pending.escape_ascii()))
        }
    }

    fn gdb(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !std::mem::replace(&mut self.attached, true) {
            self.gone = false;
            self.give(Input::GdbAttached)?;
        }
        self.give(Input::GdbBytes(bytes))
    }

    fn wait(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        while let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.give(Input::Tick)?;
        }
        self.now = end;
        self.give(Input::Tick)
    }

    fn event(&mut self, number: usize) -> Result<(), String> {
        match number % 8 {
            0 if self.attached => {
                self.attached = false;
                self.give(Input::GdbDetached)
            }
            1 => self.give(Input::BreakRequested),
            2 => self.give(Input::Resume),
            3 => self.give(Input::TargetReset),
            4 => self.give(Input::VmPaused(number & 8 != 0)),
            5 if self.up => {
                self.target_goes()?;
                self.up = false;
                Ok(())
            }
            5 => {
                self.up = true;
                self.give(Input::TargetUp)
            }
            _ => self.give(Input::Tick),
        }
    }

    /// The stream ends: everything has gone somewhere, and what gdb got is packets and their acknowledgements.
    fn target_goes(&mut self) -> Result<(), String> {
        if self.up {
            self.give(Input::TargetGone { reason: "ended" })?;
        }
        if !self.pending.is_empty() {
            return Err(format!("`{}` is lost", self.pending.escape_ascii()));
        }
        let mut rest = self.gdb_stream.as_slice();
        while let Some((first, more)) = rest.split_first() {
            if matches!(first, b'+' | b'-') || self.transparent {
                rest = more;
                continue;
            }
            let hash = rest.iter().position(|byte| *byte == b'#').unwrap_or(rest.len());
            let end = (hash + 3).min(rest.len());
            if framing::data(&rest[..end]).is_none() {
                return Err(format!("gdb got `{}`", rest.escape_ascii()));
            }
            rest = &rest[end..];
        }
        self.gdb_stream.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Steps that a real conversation has, and any bytes between them.
    fn script() -> impl Strategy<Value = Vec<u8>> {
        let step = prop_oneof![
            6 => (0..64_u8).prop_map(|byte| vec![byte]),
            1 => proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| [vec![0x40 | u8::try_from(bytes.len()).unwrap_or(0)], bytes].concat()),
            1 => proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| [vec![0x60 | u8::try_from(bytes.len()).unwrap_or(0)], bytes].concat()),
            4 => (0x80..0xa0_u8).prop_map(|byte| vec![byte]),
            3 => (0xa0..0xc0_u8).prop_map(|byte| vec![byte]),
            3 => (0xc0..0xe0_u8).prop_map(|byte| vec![byte]),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        (any::<u8>(), proptest::collection::vec(step, 0..60))
            .prop_map(|(flags, steps)| [vec![flags], steps.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16 * ProptestConfig::default().cases))]

        #[test]
        fn consoles_and_gdb_share_out_the_stream(script in script()) {
            if let Err(error) = check(Instant::now(), &script) {
                prop_assert!(false, "{}", error);
            }
        }

        #[test]
        fn any_bytes_are_a_story(script in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Err(error) = check(Instant::now(), &script) {
                prop_assert!(false, "{}", error);
            }
        }
    }

    /// Half a packet is no question yet: its gdb was never answered by us, and talks to the target when that comes.
    #[test]
    fn a_gdb_that_said_nothing_whole_to_an_absent_target_has_the_next_one() {
        let (target_goes_or_comes, half_a_packet, packet, answer) =
            (0xe5, [0xa7, b'$', b'q', b'S'], 0x80, 0x11);
        let script = [
            &[1, target_goes_or_comes],
            &half_a_packet[..],
            &[target_goes_or_comes, packet, packet, packet, answer],
        ];
        assert_eq!(check(Instant::now(), &script.concat()), Ok(()));
    }

    #[test]
    fn a_wrong_share_is_seen() {
        let mut story = Story::new(Instant::now(), 0);
        story.pending.extend_from_slice(b"ab");
        assert!(story.take(b"b", "gdb").is_err());
        assert!(story.target_goes().is_err_and(|error| error.contains("is lost")));
        let mut story = Story::new(Instant::now(), 0);
        story.gdb_stream.extend_from_slice(b"+text");
        assert!(story.target_goes().is_err_and(|error| error.contains("gdb got")));
    }
}
