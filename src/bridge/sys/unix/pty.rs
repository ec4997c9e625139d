//! A pseudo terminal as an endpoint: it stays while its users come and go, and their coming and going is seen.
//!
//! We hold its slave side ourselves, raw before the first byte: without a holder the master reads EIO, and a cooked terminal
//! would echo the VM's bytes back into the VM. It is held for as long as the terminal is there, because a user's exclusive mode
//! (TIOCEXCL) outlives the user, and then nobody but root can open the slave again, not even by TIOCGPTPEER; only a holder
//! can take it back (tried on Linux 6.1). inotify tells when somebody opens or closes it. Whether the last user is gone is asked by
//! closing our slave for a moment: then the master is hung up. Afterwards the terminal is raw again, not exclusive, and empty.

use super::holder::{held, pty_master_holder};
use super::pty_master::{Master, register};
use super::stream::NativeStream;
use crate::bridge::channel::Facts;
use crate::model::{FailureKind, Problem};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, ioctl};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
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

/// The news of a close comes before the close has happened: who is still there is asked at once, and again after these.
const LOOKS_AFTER_CLOSE: [Duration; 3] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(200),
];

/// `TIOCGEXCL`: whether a terminal is exclusive (tty_ioctl(4)).
const GET_EXCLUSIVE: rustix::ioctl::Opcode = 0x8004_5440;

/// Who uses the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    /// Nobody.
    Nobody,
    /// Somebody, and a [`PtyStream`] is out.
    Attached,
    /// Somebody that nobody serves any more: input is dropped until they leave.
    Ignored,
    /// The last one left just now.
    Left,
}

/// What happened to the terminal.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    opened: bool,
    closed: bool,
}

/// When to ask next whether somebody is still there.
#[derive(Debug, Default)]
struct Looks {
    next: Option<Pin<Box<Sleep>>>,
    taken: usize,
}

#[derive(Debug)]
struct Shared {
    master: Mutex<Master>,
    /// Ours; missing only if a user made the terminal exclusive in the moment in which we asked who is there.
    slave: Mutex<Option<OwnedFd>>,
    watch: AsyncFd<OwnedFd>,
    device: CString,
    users: Mutex<Users>,
    looks: Mutex<Looks>,
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
    /// The last user is gone; what was written is still read.
    gone: bool,
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
        make_raw(&slave)?;
        rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events =
            inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::CLOSE_NOWRITE;
        inotify::add_watch(&watch, device.as_c_str(), events)?;
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
            master: Mutex::new(Master::new(master)?),
            watch: register(watch, Interest::READABLE)?,
            device,
            slave: Mutex::new(Some(slave)),
            users: Mutex::new(Users::Nobody),
            looks: Mutex::default(),
        }),
        device: path,
        link: link.map(Path::to_owned),
        second_look: None,
    })
}

/// Opens the slave without making it our controlling terminal.
fn open_slave(device: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(device.as_c_str(), flags, Mode::empty())?)
}

/// Tells whether only its holders may open the terminal.
fn is_exclusive(slave: &OwnedFd) -> bool {
    // SAFETY: TIOCGEXCL stores one `int`, and does nothing else.
    let exclusive = unsafe { ioctl(slave.as_fd(), Getter::<GET_EXCLUSIVE, i32>::new()) };
    exclusive.is_ok_and(|exclusive| exclusive != 0)
}

/// Makes the terminal raw.
fn make_raw(terminal: &OwnedFd) -> io::Result<()> {
    let mut settings = rustix::termios::tcgetattr(terminal)?;
    settings.make_raw();
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings)?;
    Ok(())
}

/// Puts the link in place atomically. A link to another terminal is left over from a former run (numbers change), unless
/// that terminal was there before the link: then whoever made the link is still there.
fn make_link(link: &Path, device: &Path) -> Result<(), Problem> {
    let what = || format!("cannot link `{}` to a terminal", link.display());
    match std::fs::symlink_metadata(link) {
        Ok(found) => {
            let old = Some(found.file_type())
                .filter(std::fs::FileType::is_symlink)
                .and_then(|_| std::fs::read_link(link).ok())
                .filter(|old| old.starts_with("/dev/pts"));
            let Some(old) = old else {
                return Err(Problem::new(
                    FailureKind::Precondition,
                    format!("{}: it is there already and is no link to one", what()),
                )
                .hint("Choose another path."));
            };
            let is_served =
                std::fs::symlink_metadata(&old).is_ok_and(|terminal| changed(&terminal) <= changed(&found));
            if is_served {
                let hint = "End that process or choose another path; if nobody uses the link, remove it.";
                return Err(held(&what(), pty_master_holder(&old), "serves one there", hint));
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

/// Returns when an inode was last changed: a terminal's when it was made and given its mode, a link's when it was made.
fn changed(metadata: &std::fs::Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

impl Shared {
    fn users(&self) -> Users {
        *locked(&self.users)
    }

    fn set_users(&self, users: Users) {
        *locked(&self.users) = users;
    }

    /// Takes all events of the watch, and asks to be woken by the next one.
    fn poll_events(&self, context: &mut Context<'_>) -> io::Result<Seen> {
        let mut seen = Seen::default();
        while let Poll::Ready(guard) = self.watch.poll_read_ready(context) {
            let mut guard = guard?;
            let more = self.take_events()?;
            seen.opened |= more.opened;
            seen.closed |= more.closed;
            guard.clear_ready();
        }
        Ok(seen)
    }

    /// Reads events until there are none.
    fn take_events(&self) -> io::Result<Seen> {
        let mut buffer = [const { MaybeUninit::uninit() }; 1024];
        let mut reader = inotify::Reader::new(self.watch.as_fd(), &mut buffer);
        let mut seen = Seen::default();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::OPEN) => seen.opened = true,
                Ok(_) => seen.closed = true,
                Err(Errno::WOULDBLOCK) => return Ok(seen),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        locked(&self.master).poll_read(context, buffer)
    }

    /// Somebody closed the terminal: looks begin.
    fn start_looks(&self) {
        *locked(&self.looks) = Looks {
            next: Some(Box::pin(tokio::time::sleep(Duration::ZERO))),
            taken: 0,
        };
    }

    /// Waits until the last user is gone.
    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.poll_events(context)?.closed {
                self.start_looks();
            }
            {
                let mut looks = locked(&self.looks);
                let Some(next) = &mut looks.next else {
                    return Poll::Pending;
                };
                ready!(next.as_mut().poll(context));
                let pause = LOOKS_AFTER_CLOSE.get(looks.taken);
                looks.next = pause.map(|&pause| Box::pin(tokio::time::sleep(pause)));
                looks.taken += 1;
            }
            if self.nobody_is_there()? {
                *locked(&self.looks) = Looks::default();
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Asks who is there, by closing our slave for a moment. If nobody is, the terminal is taken back: raw again, not
    /// exclusive, what nobody read is forgotten. (What a user wrote is in the other direction, and stays.)
    fn nobody_is_there(&self) -> io::Result<bool> {
        let mut held = locked(&self.slave);
        let mut exclusive = false;
        if let Some(slave) = held.take() {
            exclusive = is_exclusive(&slave);
            if exclusive {
                rustix::termios::ioctl_tiocnxcl(&slave)?;
            }
        }
        let nobody = self.is_hung_up()?;
        match open_slave(&self.device) {
            Ok(slave) => {
                if nobody {
                    make_raw(&slave)?;
                    rustix::termios::tcflush(&slave, QueueSelector::IFlush)?;
                } else if exclusive {
                    rustix::termios::ioctl_tiocexcl(&slave)?;
                }
                *held = Some(slave);
            }
            Err(error) if nobody => return Err(error),
            // Whoever made it exclusive just now is there; the master is hung up when they leave.
            Err(_) => {}
        }
        // Our own closing and opening are no users.
        self.take_events()?;
        Ok(nobody)
    }

    /// Tells whether no slave is open.
    fn is_hung_up(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        let master = locked(&self.master);
        let mut descriptors = [PollFd::new(master.registered()?.get_ref(), PollFlags::IN)];
        let now = rustix::time::Timespec::default();
        poll(&mut descriptors, Some(&now))?;
        Ok(descriptors[0].revents().contains(PollFlags::HUP))
    }
}

/// What is behind these locks is replaced in one assignment, so a panic elsewhere cannot have left half of it.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PtyServer {
    /// Returns the terminal's own path.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Waits until somebody opens the terminal.
    pub fn poll_attach(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(NativeStream, Facts)>> {
        loop {
            match self.shared.users() {
                Users::Attached => return Poll::Pending,
                Users::Ignored => {
                    let gone = self.shared.poll_gone(context)?.is_ready();
                    let mut hung_up = false;
                    while let Poll::Ready(count) = self.shared.poll_read(context, &mut [0; 4096])? {
                        hung_up = count == 0;
                        if hung_up {
                            break;
                        }
                    }
                    if gone || (hung_up && self.shared.nobody_is_there()?) {
                        self.shared.set_users(Users::Left);
                    } else {
                        return Poll::Pending;
                    }
                }
                Users::Left => {
                    self.second_look = Some(Box::pin(tokio::time::sleep(SECOND_LOOK)));
                    self.shared.set_users(Users::Nobody);
                }
                Users::Nobody => {
                    let seen = self.shared.poll_events(context)?;
                    let look = self
                        .second_look
                        .as_mut()
                        .is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
                    if look {
                        self.second_look = None;
                    }
                    if seen.opened || (look && !self.shared.nobody_is_there()?) {
                        self.second_look = None;
                        if seen.closed {
                            self.shared.start_looks();
                        }
                        return Poll::Ready(Ok(self.attached()));
                    }
                    if !look {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn attached(&self) -> (NativeStream, Facts) {
        self.shared.set_users(Users::Attached);
        let stream = PtyStream {
            shared: Arc::clone(&self.shared),
            gone: false,
            ended: false,
        };
        (
            NativeStream::Pty(stream),
            Facts::whole(self.device.display().to_string()),
        )
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
        let users = if self.ended { Users::Left } else { Users::Ignored };
        self.shared.set_users(users);
    }
}

impl AsyncRead for PtyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.gone {
                // The reactor may not have heard of the last words yet; the kernel has them.
                let count = locked(&this.shared.master).read_now(buffer.initialize_unfilled())?;
                this.ended = count == 0;
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(count) = this.shared.poll_read(context, buffer.initialize_unfilled())? {
                if count == 0 {
                    // Hung up: somebody had taken our slave's place, and left.
                    this.ended = this.shared.nobody_is_there()?;
                }
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            ready!(this.shared.poll_gone(context))?;
            this.gone = true;
        }
    }
}

impl AsyncWrite for PtyStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        locked(&self.shared.master).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
