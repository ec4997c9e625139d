//! The program on a real terminal.

use crate::kit::{PATIENCE, Sandbox, contains, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// A console on a terminal of its own.
pub struct OnTerminal {
    pub child: Child,
    pub keys: File,
    screen: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
    terminal: OwnedFd,
    hung_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl OnTerminal {
    pub fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        Self::start_command(sandbox.vmserial(arguments))
    }

    /// A job of its own, as a shell starts one.
    pub fn start_job(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let mut command = sandbox.vmserial(arguments);
        command.process_group(0);
        Self::start_command(command)
    }

    /// Any command that ends in the program, such as one that shuts it in.
    pub fn start_command(mut command: Command) -> Self {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
        let side = || Stdio::from(terminal.try_clone().unwrap());
        let child = command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut output = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        let hung_up = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&hung_up);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let look = Timespec::try_from(Duration::from_millis(20)).unwrap();
            while !gone.load(Ordering::SeqCst) {
                let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&look)).unwrap();
                if ready == 0 {
                    continue;
                }
                match output.read(&mut buffer) {
                    Ok(count @ 1..) if sender.send(buffer[..count].to_vec()).is_ok() => {}
                    _ => return,
                }
            }
        });
        Self {
            child,
            keys,
            screen,
            seen: Vec::new(),
            terminal,
            hung_up,
            reader: Some(reader),
        }
    }

    pub fn wait(&mut self, part: &str) {
        while !contains(&self.seen, part.as_bytes()) {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(error) => panic!(
                    "no `{part}` ({error}) in:\n{}",
                    String::from_utf8_lossy(&self.seen)
                ),
            }
        }
    }

    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Closes the terminal's other end, as a window that is closed.
    pub fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        self.keys = File::open("/dev/null").unwrap();
    }

    /// Sets the terminal as a shell has it.
    pub fn cook(&self) {
        let mut modes = tcgetattr(&self.terminal).unwrap();
        modes.local_modes |= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(&self.terminal, OptionalActions::Now, &modes).unwrap();
    }

    /// Types keys.
    pub fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    /// Forgets what was shown, so that the next wait is for something new.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Returns what was shown since.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    pub fn end(&mut self) -> Option<i32> {
        wait_until("the console ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
