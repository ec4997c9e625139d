//! The breakpoints that gdb has planted in the kernel: what must be undone when gdb dies.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What gdb left in a kernel. Kept on disk while it is not empty, so that a later process can free the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    /// Addresses of the `Z0` packets that kgdb answered `OK` and that no `z0` took back.
    pub breakpoints: BTreeSet<u64>,
    /// What was planted when the kernel was last told to run on (`c`). While this is not empty a stopped kernel may stand
    /// one byte behind one of them: x86 reports a trap behind its `int3`, and gdb, which moves the program counter back on
    /// such a stop, may be dead. After a single step a counter at an address + 1 is rightful, so `s` empties this.
    pub behind: BTreeSet<u64>,
    /// The kernel stands still for a gdb, or because of a break-in of ours.
    #[serde(default)]
    pub stopped: bool,
    /// All this was left on purpose (`--leave-stopped`): the next start does not undo it by itself.
    #[serde(default)]
    pub left: bool,
}

impl Planted {
    /// Tells whether there is nothing to undo.
    pub fn is_empty(&self) -> bool {
        !self.has_breakpoints() && !self.stopped
    }

    /// Tells whether a running kernel may still run into a breakpoint, or has.
    pub fn has_breakpoints(&self) -> bool {
        !self.breakpoints.is_empty() || !self.behind.is_empty()
    }

    /// Returns where a kernel that stopped at `program_counter` must go on, if it stands behind a breakpoint.
    pub fn put_back(&self, program_counter: u64) -> Option<u64> {
        let address = program_counter.checked_sub(1)?;
        self.behind.contains(&address).then_some(address)
    }

    /// The kernel was told to run on.
    pub(crate) fn resumed(&mut self) {
        self.behind = self.breakpoints.clone();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_a_counter_one_behind_a_breakpoint_is_put_back() {
        let mut planted = Planted {
            breakpoints: [0xffff_ffff_8103_a38d].into(),
            ..Planted::default()
        };
        assert_eq!(planted.put_back(0xffff_ffff_8103_a38e), None);
        planted.resumed();
        assert_eq!(
            planted.put_back(0xffff_ffff_8103_a38e),
            Some(0xffff_ffff_8103_a38d)
        );
        assert_eq!(planted.put_back(0xffff_ffff_8103_a38d), None);
        assert_eq!(planted.put_back(0), None);
    }

    #[test]
    fn it_survives_being_written_down() {
        let planted = Planted {
            breakpoints: [1, 0xffff_ffff_8103_a38d].into(),
            behind: [7].into(),
            stopped: true,
            left: false,
        };
        let text = serde_json::to_string(&planted).unwrap();
        assert_eq!(serde_json::from_str::<Planted>(&text).unwrap(), planted);
        assert!(serde_json::from_str::<Planted>(r#"{"breakpoints":[],"behind":[],"more":1}"#).is_err());
    }
}
