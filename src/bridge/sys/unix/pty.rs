//! A pseudo terminal as an endpoint: it stays while its users come and go, and their coming and going is seen.
//!
//! While nobody has the terminal open we hold its slave side ourselves, raw: without a holder the master reads EIO, and a
//! cooked terminal would echo the VM's bytes back into the VM. inotify tells when somebody opens it; then our slave is
//! closed, so that the kernel itself says exactly (EIO on the master, after the last byte) when the last user is gone.

use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::{FailureKind, Problem};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::Sleep;

/// After the last user left, one more look for a user that came in the microseconds in which our own re-opening hides
/// an open.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Who uses the terminal.
#[derive(Debug)]
enum Users {
    /// Nobody: we hold the slave.
    Nobody(#[expect(dead_code, reason = "held, not used: it keeps the terminal alive")] OwnedFd),
    /// Somebody, and a [`PtyStream`] is out.
    Attached,
    /// Somebody that nobody serves any more: input is dropped until they leave.
    Ignored,
    /// The last one left; the slave is not taken back yet.
    Left,
}

#[derive(Debug)]
struct Shared {
    master: Mutex<Master>,
    watch: AsyncFd<OwnedFd>,
    device: CString,
    users: Mutex<Users>,
}

/// A pseudo terminal that waits for users.
#[derive(Debug)]
pub struct PtyServer {
    shared: Arc<Shared>,
    device: PathBuf,
    link: Option<PathBuf>,
    second_look: Option<Pin<Box<Sleep>>>,
}

/// The terminal while somebody has it open. Its input ends when the last user closed it.
#[derive(Debug)]
pub struct PtyStream {
    shared: Arc<Shared>,
    ended: bool,
}

fn cannot(what: &str, error: impl Into<io::Error>) -> Problem {
    let error: io::Error = error.into();
    Problem::new(FailureKind::Precondition, format!("cannot {what}: {error}"))
}

/// Makes a pseudo terminal, raw and private, and the link to it.
///
/// # Errors
///
/// Precondition: the link's path is something else than a link to a terminal, or the system has no terminal left.
pub fn open_pty(link: Option<&Path>) -> Result<PtyServer, Problem> {
    let open = || -> io::Result<(OwnedFd, CString, OwnedFd, OwnedFd)> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let device = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = open_slave(&device)?;
        rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, device.as_c_str(), inotify::WatchFlags::OPEN)?;
        Ok((master, device, slave, watch))
    };
    let (master, device, slave, watch) = open().map_err(|error| {
        let problem = cannot("make a pseudo terminal", error.kind());
        if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) {
            problem.hint("Raise `sysctl fs.inotify.max_user_instances`: each pseudo terminal needs one.")
        } else {
            problem
        }
    })?;
    let path = PathBuf::from(OsStr::from_bytes(device.as_bytes()));
    if let Some(link) = link {
        make_link(link, &path)?;
    }
    Ok(PtyServer {
        shared: Arc::new(Shared {
            master: Mutex::new(Master(Some(register_master(master)?))),
            watch: register(watch, Interest::READABLE)?,
            device,
            users: Mutex::new(Users::Nobody(slave)),
        }),
        device: path,
        link: link.map(Path::to_owned),
        second_look: None,
    })
}

/// Opens the slave without making it our controlling terminal, and makes it raw.
fn open_slave(device: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let slave = rustix::fs::open(device.as_c_str(), flags, Mode::empty())?;
    make_raw(&slave)?;
    Ok(slave)
}

/// Makes the terminal raw; on Linux a master's settings are its slave's.
fn make_raw(terminal: &OwnedFd) -> io::Result<()> {
    let mut settings = rustix::termios::tcgetattr(terminal)?;
    settings.make_raw();
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings)?;
    Ok(())
}

/// Puts the link in place atomically. A link to another terminal is left over from a former run: numbers change.
fn make_link(link: &Path, device: &Path) -> Result<(), Problem> {
    match std::fs::symlink_metadata(link) {
        Ok(found) => {
            let stale = found.file_type().is_symlink()
                && std::fs::read_link(link).is_ok_and(|old| old.starts_with("/dev/pts"));
            if !stale {
                return Err(Problem::new(
                    FailureKind::Precondition,
                    format!(
                        "cannot link `{}` to a terminal: it is there already and is no link to one",
                        link.display()
                    ),
                )
                .hint("Choose another path."));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(&format!("make the link `{}`", link.display()), error)),
    }
    let mut name = link.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = link.with_file_name(name);
    std::os::unix::fs::symlink(device, &beside)
        .and_then(|()| std::fs::rename(&beside, link))
        .map_err(|error| cannot(&format!("make the link `{}`", link.display()), error))
}

/// The master side. The reactor takes a hang-up for final and reports the descriptor ready for ever after; here it ends
/// with the next user, so the descriptor is registered afresh when it was reported closed and is not.
#[derive(Debug)]
struct Master(Option<AsyncFd<OwnedFd>>);

fn register_master(master: OwnedFd) -> Result<AsyncFd<OwnedFd>, Problem> {
    register(master, Interest::READABLE | Interest::WRITABLE)
}

impl Master {
    fn registered(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.0
            .as_ref()
            .ok_or_else(|| io::Error::other("the terminal could not be watched any more"))
    }

    fn renew(&mut self) -> io::Result<()> {
        if let Some(master) = self.0.take() {
            self.0 = Some(
                register_master(master.into_inner()).map_err(|problem| io::Error::other(problem.message))?,
            );
        }
        Ok(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let master = self.registered()?;
            let mut guard = ready!(master.poll_read_ready(context))?;
            match rustix::io::read(master.get_ref(), &mut *buffer) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let reported_closed = guard.ready().is_read_closed();
                    guard.clear_ready();
                    if reported_closed {
                        self.renew()?;
                    }
                }
                // The last user closed the terminal, and everything that was written to it has been read.
                Err(Errno::IO) => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let master = self.registered()?;
            let mut guard = ready!(master.poll_write_ready(context))?;
            match rustix::io::write(master.get_ref(), bytes) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let reported_closed = guard.ready().is_write_closed();
                    guard.clear_ready();
                    if reported_closed {
                        self.renew()?;
                        if self.registered()?.poll_write_ready(context).is_ready() {
                            // Full and hung up: the reader sees the end, and the client goes.
                            return Poll::Pending;
                        }
                    }
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Hands a descriptor to the reactor.
fn register(descriptor: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Problem> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, always with the same number, and `AsyncFd` owns it from here.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }
        .map_err(|error| cannot("watch a pseudo terminal", error))
}

impl Shared {
    fn users(&self) -> std::sync::MutexGuard<'_, Users> {
        // The value is replaced in one assignment, so a panic elsewhere cannot have left half of it.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all events of the watch; tells whether somebody opened the terminal.
    fn poll_opened(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut opened = false;
        loop {
            let mut guard = match self.watch.poll_read_ready(context) {
                Poll::Ready(guard) => guard?,
                Poll::Pending if opened => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            if self.take_events()? {
                opened = true;
            }
            guard.clear_ready();
        }
    }

    /// Reads events until there are none; tells whether there were any.
    fn take_events(&self) -> io::Result<bool> {
        let mut buffer = [const { MaybeUninit::uninit() }; 1024];
        let mut reader = inotify::Reader::new(self.watch.as_fd(), &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(_) => any = true,
                Err(Errno::WOULDBLOCK) => return Ok(any),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn master(&self) -> std::sync::MutexGuard<'_, Master> {
        // A panic elsewhere cannot have left half of it.
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.master().poll_read(context, buffer)
    }

    /// Takes the slave back: raw again, what nobody read is forgotten, our own opening is no user. (What a user wrote is
    /// in the other direction, and stays.)
    fn take_back(&self) -> io::Result<()> {
        let slave = open_slave(&self.device)?;
        rustix::termios::tcflush(&slave, QueueSelector::IFlush)?;
        self.take_events()?;
        *self.users() = Users::Nobody(slave);
        Ok(())
    }
}

impl PtyServer {
    /// Returns the terminal's own path.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Waits until somebody opens the terminal.
    pub fn poll_attach(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        loop {
            let (ignored, left) = match &*self.shared.users() {
                Users::Nobody(_) => (false, false),
                Users::Attached => return Poll::Pending,
                Users::Ignored => (true, false),
                Users::Left => (false, true),
            };
            if ignored {
                if ready!(self.shared.poll_read(context, &mut [0; 4096]))? == 0 {
                    *self.shared.users() = Users::Left;
                }
                continue;
            }
            if left {
                if !self.nobody_is_there()? {
                    // The next one came before we looked.
                    make_raw(self.shared.master().registered()?.get_ref())?;
                    return Poll::Ready(Ok(self.attached()));
                }
                self.shared.take_back()?;
                self.second_look = Some(Box::pin(tokio::time::sleep(SECOND_LOOK)));
                continue;
            }
            let opened = self.shared.poll_opened(context)?.is_ready();
            let look = self
                .second_look
                .as_mut()
                .is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
            if !opened && !look {
                return Poll::Pending;
            }
            self.second_look = None;
            // Closes our slave; from here on EIO tells the truth.
            *self.shared.users() = Users::Attached;
            if look && !opened && self.nobody_is_there()? {
                self.shared.take_back()?;
                continue;
            }
            return Poll::Ready(Ok(self.attached()));
        }
    }

    fn attached(&self) -> (NativeStream, Facts) {
        *self.shared.users() = Users::Attached;
        let stream = PtyStream {
            shared: Arc::clone(&self.shared),
            ended: false,
        };
        (
            NativeStream::Pty(stream),
            Facts::whole(self.device.display().to_string()),
        )
    }

    /// Asks the master, with our slave closed.
    fn nobody_is_there(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        let master = self.shared.master();
        let mut descriptors = [PollFd::new(master.registered()?.get_ref(), PollFlags::IN)];
        let now = rustix::time::Timespec::default();
        poll(&mut descriptors, Some(&now))?;
        let ready = descriptors[0].revents();
        Ok(ready.contains(PollFlags::HUP) && !ready.contains(PollFlags::IN))
    }
}

impl Drop for PtyServer {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && std::fs::read_link(link).is_ok_and(|target| target == self.device)
        {
            // A link that cannot be removed is found stale by the next start.
            let _ = std::fs::remove_file(link);
        }
    }
}

impl Drop for PtyStream {
    fn drop(&mut self) {
        // Users cannot be told to leave. The server drops what they type until they do.
        *self.shared.users() = if self.ended { Users::Left } else { Users::Ignored };
    }
}

impl AsyncRead for PtyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let count = ready!(this.shared.poll_read(context, buffer.initialize_unfilled()))?;
        this.ended = count == 0;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PtyStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.master().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
