//! What a bridge asks of others: where the target is now, how a stream is opened that needs a process, and how BREAK
//! reaches the guest.

use crate::bridge::channel::Channel;
use crate::model::{Deadline, EndpointSpec, NativeBreak, Problem};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// Knows where a VM's port is *now* (a PTY's path, a free port, a domain ID). Asked before every dial.
pub trait Dialer: Send + Sync {
    /// Returns the endpoint, with our role. Called on a blocking thread.
    ///
    /// # Errors
    ///
    /// The reason, as a fragment; the VM side is then *away* and asked again later.
    fn locate(&self, deadline: Deadline) -> Result<EndpointSpec, String>;

    /// Returns where the VM's hypervisor tells the owner of this port what happens to the VM, if it does.
    fn events(&self) -> Option<VmEventSource> {
        None
    }
}

/// Something that happened to the VM, as its hypervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmEvent {
    /// It began anew: reset from outside, or rebooted by its guest.
    Reset,
    /// Its CPUs stand still (`true`), or go on.
    Paused(bool),
}

/// Understands what a hypervisor tells of its VM over one stream. Pure.
pub trait VmEventReader: Send {
    /// Takes what came, appends what happened, and returns what is to be answered.
    ///
    /// # Errors
    ///
    /// The stream speaks something else: what was expected and what came, as a fragment.
    fn input(&mut self, bytes: &[u8], happened: &mut Vec<VmEvent>) -> Result<Vec<u8>, String>;
}

/// A stream on which a hypervisor tells what happens to its VM. One connection's worth.
pub struct VmEventSource {
    /// Where it is, with our role.
    pub endpoint: EndpointSpec,
    /// Understands it.
    pub reader: Box<dyn VmEventReader>,
}

impl fmt::Debug for VmEventSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VmEventSource({})", self.endpoint)
    }
}

type TakeRemark = dyn Fn(&EndpointSpec, String) + Send + Sync;

/// What a stream's process says beside its bytes (its standard error), for the event `said`. Usable on any thread.
#[derive(Clone)]
pub struct Remarks(Arc<TakeRemark>);

impl Remarks {
    /// Makes them of what takes a line of an endpoint. It must not wait.
    pub fn new(take: impl Fn(&EndpointSpec, String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Passes one line on, without its line end.
    pub fn say(&self, endpoint: &EndpointSpec, line: String) {
        (self.0)(endpoint, line);
    }
}

impl fmt::Debug for Remarks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Remarks(..)")
    }
}

/// A stream that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Channel>> + Send>>;

/// Opens the streams that need a process or SSH: `exec:` and `via=`. One opener serves one bridge, in its runtime.
pub trait Opener: Send + Sync {
    /// Refuses an endpoint that it cannot open, by its name, with what to use instead.
    ///
    /// # Errors
    ///
    /// Precondition.
    fn check(&self, endpoint: &EndpointSpec) -> Result<(), Problem>;

    /// Opens an endpoint once. A failure's text is the `reason` of the `target` event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up; what it started is ended.
    fn open(&self, endpoint: &EndpointSpec, remarks: &Remarks) -> Opening;

    /// Ends everything that was started for streams, and returns when it is gone. The bridge calls it once, at its end,
    /// with its channels closed.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Where the target's endpoint comes from.
#[derive(Clone)]
pub enum TargetSource {
    /// It never changes.
    Fixed(EndpointSpec),
    /// Somebody knows.
    Asked(Arc<dyn Dialer>),
}

impl fmt::Debug for TargetSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(endpoint) => formatter.debug_tuple("Fixed").field(endpoint).finish(),
            Self::Asked(_) => formatter.write_str("Asked(..)"),
        }
    }
}

/// Sends one BREAK to the guest by a way beside the stream (QMP, a command).
pub trait Breaker: Send + Sync {
    /// Names the way, for the `break` event: `qmp:/path`.
    fn way(&self) -> String;

    /// Sends one BREAK. Called on a blocking thread; gives up at the deadline (500 ms after the start).
    ///
    /// # Errors
    ///
    /// The reason, as a fragment.
    fn send_break(&self, deadline: Deadline) -> Result<(), String>;
}

/// How BREAK reaches the guest.
#[derive(Clone)]
pub enum BreakMeans {
    /// There is no way.
    None,
    /// By the stream that takes the `g`, if it has a BREAK of its own.
    Own,
    /// By this kind. A stream that is not telnet gets telnet's raw bytes; the other kinds must be the stream's own.
    By(NativeBreak),
    /// A way beside the stream.
    Beside(Arc<dyn Breaker>),
}

impl BreakMeans {
    /// Returns the means when nobody named one: the endpoint's own BREAK, or none.
    pub fn native_of(endpoint: &EndpointSpec) -> Self {
        match endpoint.address.native_breaks().first() {
            Some(&kind) => Self::By(kind),
            None => Self::None,
        }
    }

    /// Names the way, for the `break` event.
    pub fn way(&self) -> String {
        match self {
            Self::None => "none".into(),
            Self::Own => "own".into(),
            Self::By(kind) => kind.name().into(),
            Self::Beside(breaker) => breaker.way(),
        }
    }
}

impl fmt::Debug for BreakMeans {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BreakMeans({})", self.way())
    }
}

/// Whoever owns the port that a break-in must go through, and does the whole break-in (BREAK, 100 ms, `g`) there.
/// A [`BridgeHandle`](crate::bridge::BridgeHandle) of the console's bridge is one, its control socket another.
pub trait BreakOwner: Send + Sync {
    /// Names the way, for the `break` event.
    fn way(&self) -> String;

    /// Breaks in. Called on a blocking thread.
    ///
    /// # Errors
    ///
    /// The reason, as a fragment.
    fn break_in(&self, deadline: Deadline) -> Result<(), String>;
}

/// Knows who has another port of the VM *now*. Asked for each break-in: its owner comes and goes.
pub trait BreakPortSource: Send + Sync {
    /// Returns the port as it is to be used this time. Called on a blocking thread.
    ///
    /// # Errors
    ///
    /// The reason, as a fragment.
    fn now(&self) -> Result<BreakPort, String>;
}

/// Which stream takes the `g` of a break-in.
#[derive(Clone, Default)]
pub enum BreakPort {
    /// The target's own (kgdb on the console).
    #[default]
    Target,
    /// Another port of the VM: dialled for each break-in, read and dropped, closed after the stop or 1.6 s.
    Endpoint(EndpointSpec),
    /// Another port of the VM that somebody else owns.
    Owner(Arc<dyn BreakOwner>),
    /// Another port of the VM that somebody may own.
    Asked(Arc<dyn BreakPortSource>),
}

impl fmt::Debug for BreakPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target => formatter.write_str("Target"),
            Self::Endpoint(endpoint) => formatter.debug_tuple("Endpoint").field(endpoint).finish(),
            Self::Owner(owner) => write!(formatter, "Owner({})", owner.way()),
            Self::Asked(_) => formatter.write_str("Asked(..)"),
        }
    }
}
