//! Serving a named pipe: nobody else's name is taken over, nobody from another machine comes in, and there is always one
//! free instance, so that a client never finds the name absent while we serve it.

use super::pipe::{PipeStream, cannot_listen, is_pipe, no_unix_sockets};
use super::pipe_error::{BUSY, explained};
use super::security::PipeAccess;
use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::Problem;
use std::fmt;
use std::io;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::net::windows::named_pipe::{NamedPipeServer, PipeMode, ServerOptions};
use windows_sys::Win32::System::Pipes::GetNamedPipeHandleStateW;

/// What fits into a pipe each way before its writer waits; as much as the bridge reads at once.
const BUFFER: u32 = 64 * 1024;

type Connecting = Pin<Box<dyn Future<Output = io::Result<NamedPipeServer>> + Send>>;

/// A named pipe that we serve. The name is gone when this and all its connections are.
pub struct LocalListener {
    path: PathBuf,
    access: PipeAccess,
    /// The free instance.
    waiting: Mutex<Option<Connecting>>,
}

impl fmt::Debug for LocalListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LocalListener")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Whether an instance must be the first of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instance {
    First,
    Further,
}

/// Serves a named pipe: byte mode, for the user and Administrators of this machine.
///
/// # Errors
///
/// Precondition: somebody serves this name, or it is none.
pub fn listen_local(path: &Path) -> Result<LocalListener, Problem> {
    if !is_pipe(path) {
        return Err(no_unix_sockets());
    }
    let access = PipeAccess::of_user().map_err(|error| cannot_listen(path, &error))?;
    let listener = LocalListener {
        path: path.to_owned(),
        access,
        waiting: Mutex::new(None),
    };
    let first = listener
        .instance(Instance::First)
        .map_err(|error| cannot_listen(path, &error))?;
    *listener.lock() = Some(first);
    Ok(listener)
}

/// Returns how many instances of the pipe there are, whoever made them.
fn instances(server: &NamedPipeServer) -> io::Result<u32> {
    let mut count = 0;
    // SAFETY: the handle is open; nothing but the number is asked for, and `count` is a valid place for it.
    let known = unsafe {
        GetNamedPipeHandleStateW(
            server.as_raw_handle(),
            std::ptr::null_mut(),
            &raw mut count,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
    if known == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(count)
}

impl LocalListener {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connecting>> {
        // One field is replaced as a whole: there is no half state.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instance(&self, instance: Instance) -> io::Result<Connecting> {
        let mut attributes = self.access.attributes();
        let mut options = ServerOptions::new();
        // The mode first: in some releases of tokio setting it let remote clients in again (RUSTSEC-2023-0001).
        options
            .pipe_mode(PipeMode::Byte)
            .reject_remote_clients(true)
            .first_pipe_instance(instance == Instance::First)
            .in_buffer_size(BUFFER)
            .out_buffer_size(BUFFER);
        // SAFETY: the attributes and the descriptor that they point to outlive the call, which copies them.
        let server =
            unsafe { options.create_with_security_attributes_raw(&self.path, (&raw mut attributes).cast()) }?;
        if instance == Instance::First && instances(&server)? > 1 {
            // Windows refuses by the flag already; Wine does not know it.
            return Err(io::Error::from_raw_os_error(BUSY));
        }
        Ok(Box::pin(async move {
            server.connect().await?;
            Ok(server)
        }))
    }

    /// Accepts a client.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        let mut waiting = self.lock();
        let connecting = match waiting.as_mut() {
            Some(connecting) => connecting,
            None => waiting.insert(self.instance(Instance::Further)?),
        };
        let result = match connecting.as_mut().poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        // The next one stands before this one is given away. If that fails the next call tries and tells.
        *waiting = self.instance(Instance::Further).ok();
        let (stream, facts) = PipeStream::accepted(result.map_err(explained)?);
        Poll::Ready(Ok((NativeStream::Pipe(stream), facts)))
    }
}
