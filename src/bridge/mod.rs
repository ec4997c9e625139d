//! Joins a VM's port to its clients: channels, policies, history, log, BREAK.
//!
//! [`Engine::bind`] opens the listeners of a [`BridgeSpec`] and [`Engine::run`] moves bytes until it is told to stop;
//! [`start`] does both on a thread of its own. Everybody else talks to a running bridge through its [`BridgeHandle`].

pub mod capture;
pub mod channel;
pub mod control;
pub mod dial;
pub mod engine;
pub mod event;
pub mod file_sink;
pub mod gdb_policy;
pub mod handle;
pub mod history;
pub mod kd_policy;
pub mod kd_wire;
pub mod line;
pub mod mediator;
pub mod memory;
pub mod open;
pub mod openings;
pub mod pump;
pub mod spec;
pub mod stdio;
pub mod sys;
pub mod telnet;
pub mod timeline;
mod tty;

pub use channel::{Channel, Facts};
pub use dial::{
    BreakMeans, BreakOwner, BreakPort, BreakPortSource, Breaker, Dialer, Opener, Opening, Remarks,
    TargetSource, VmEvent, VmEventReader, VmEventSource,
};
pub use engine::{Beside, Engine, Outcome, RunningBridge, Signals, StopSignal, start};
pub use event::{Event, EventRecord, KernelState, SharedEvent, TargetState};
pub use gdb_policy::{GdbPolicy, GdbPolicySpec, KeepPlanted};
pub use handle::{
    AttachMode, AttachRefused, AttachRequest, BridgeHandle, ClientId, ClientStatus, Gone, HistorySlice,
    OutputChunk, Reply, Since, Status,
};
pub use kd_policy::KdPolicy;
pub use line::{ControlRequest, ControlledStream, LineChange};
pub use mediator::{Input, Mediator, Output};
pub use spec::{BridgeSpec, JoinedVm, choose_policy};
