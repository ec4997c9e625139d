//! A hypervisor in two halves: looking (effects, through a runner) and deciding (pure).

mod api;
pub mod hyperv;
pub mod qemu;
pub mod registry;
mod secure_boot;
pub mod vmware;
pub mod xen;

pub use api::{Capabilities, Driver};
pub use secure_boot::CONFIRM as CONFIRM_SECURE_BOOT;
