//! What a profile means where it says nothing.

use super::{MemorySize, Profile, VmProfile};
use crate::model::log::DEFAULT_KEEP;
use crate::model::policy::Policy;
use crate::model::target::DebuggerKind;

/// Memory of a described VM: enough for a distribution's installer kernel.
pub const DEFAULT_MEMORY: MemorySize = MemorySize::from_bytes(256 << 20);

/// QEMU's program.
pub const DEFAULT_QEMU: &str = "qemu-system-x86_64";

/// gdb's program.
pub const DEFAULT_GDB: &str = "gdb";

/// Bytes kept for the next client, as `vmserial bridge` has it.
pub const DEFAULT_HOLD: MemorySize = MemorySize::from_bytes(0);

/// Bytes of history that a served console gets at attach, as `vmserial bridge` has it.
pub const DEFAULT_REPLAY: MemorySize = MemorySize::from_bytes(0);

impl Profile {
    /// Returns the profile with every default that does not depend on a driver or a machine written out.
    #[must_use]
    pub fn with_defaults(&self) -> Self {
        let mut profile = self.clone();
        for target in profile.targets.values_mut() {
            if let VmProfile::Described(vm) = &mut target.vm {
                vm.memory.get_or_insert(DEFAULT_MEMORY);
                vm.program.get_or_insert_with(|| DEFAULT_QEMU.to_owned());
            }
            if let Some(debugger) = &mut target.debugger
                && debugger.kind == DebuggerKind::Gdb
            {
                debugger.program.get_or_insert_with(|| DEFAULT_GDB.to_owned());
            }
            for port in &mut target.ports {
                if port.log_max.is_some() {
                    port.log_keep.get_or_insert(DEFAULT_KEEP);
                }
                if port.policy == Policy::Raw {
                    port.hold.get_or_insert(DEFAULT_HOLD);
                }
                if matches!(port.policy, Policy::Console | Policy::ConsoleGdb) {
                    port.replay.get_or_insert(DEFAULT_REPLAY);
                }
            }
        }
        profile
    }
}
