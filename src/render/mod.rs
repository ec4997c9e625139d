//! Text for other programs: templates, quoting, editors of foreign files, QMP lines. Values in, values out.

pub mod edit;
pub mod environment;
pub mod iptables;
pub mod lines;
pub mod loader_entry;
pub mod marked;
pub mod powershell;
pub mod qemu;
pub mod qmp;
pub mod quote;
pub mod vmx;
pub mod xl_cfg;
