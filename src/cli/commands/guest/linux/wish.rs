//! What is wanted of a Linux guest: flags before the profile.

use crate::cli::target::GuestTarget;
use crate::guest::linux::boot::{BootWish, ConsoleWish, EntryWish};
use crate::guest::linux::live::LiveWish;
use crate::session::guest::{BAUD, LinuxWish, wish_of};

/// Where messages of the boot and its prompts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MainConsole {
    /// Prompts of the boot come on the serial port
    Serial,
    /// Prompts of the boot stay on the screen
    Screen,
}

/// What is wanted.
#[derive(Debug, clap::Args)]
pub struct WishArgs {
    /// kgdb's port, as the guest calls it [default: that of the profile's port with `as: gdb`]
    #[arg(long, value_name = "ttyS0|ttyS1|…")]
    pub tty: Option<String>,
    /// Find kgdb's port by echo: the guest says its name on each of its ports, and this is where one arrives
    #[arg(long, value_name = "ENDPOINT", num_args = 0..=1, default_missing_value = "", conflicts_with = "tty")]
    pub find: Option<String>,
    /// Speed of the line
    #[arg(long, value_name = "N", default_value_t = BAUD)]
    pub baud: u32,
    /// Let messages below this level reach the console (8: all)
    #[arg(long, value_name = "1..8", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub log_level: Option<u8>,
    /// Do not send back what comes in on this port
    #[arg(long, value_name = "ttyS0|…")]
    pub no_echo: Option<String>,
    /// Keep kernel.sysrq = 1 for the boots to come (/etc/sysctl.d)
    #[arg(long)]
    pub keep_sysrq: bool,
    /// Add a boot entry for kgdb, made from that of the kernel that runs; the default entry stays
    #[arg(long)]
    pub boot_entry: bool,
    /// The entry stops at boot and waits for the debugger
    #[arg(long, requires = "boot_entry")]
    pub kgdbwait: bool,
    /// The entry switches KASLR off
    #[arg(long, requires = "boot_entry")]
    pub nokaslr: bool,
    /// Further kernel arguments of the entry
    #[arg(
        long,
        value_name = "TEXT",
        requires = "boot_entry",
        allow_hyphen_values = true
    )]
    pub append: Option<String>,
    /// Boot the entry next time, once
    #[arg(long, requires = "boot_entry")]
    pub once: bool,
    /// Put the kernel's console on this port, on every kernel and on those to come
    #[arg(long, value_name = "ttyS0|…")]
    pub console: Option<String>,
    /// Which of both is /dev/console
    #[arg(long, value_enum, default_value_t = MainConsole::Serial, requires = "console")]
    pub main_console: MainConsole,
    /// Log in as root on this port without a password: whoever reaches it is root there
    #[arg(long, value_name = "ttyS0|…")]
    pub autologin: Option<String>,
    /// Show GRUB's menu for five seconds
    #[arg(long)]
    pub menu: bool,
    /// Show GRUB's menu on this serial port too: 0 is ttyS0
    #[arg(long, value_name = "0..3", value_parser = clap::value_parser!(u32).range(0..4))]
    pub menu_on_serial: Option<u32>,
}

impl WishArgs {
    /// Returns what is wanted, as flags and profile say.
    pub fn wish(&self, target: Option<&GuestTarget>) -> LinuxWish {
        self.with(self.tty.clone(), target)
    }

    /// Returns the same with kgdb on this port.
    pub fn on(&self, tty: String, target: Option<&GuestTarget>) -> LinuxWish {
        self.with(Some(tty), target)
    }

    fn with(&self, tty: Option<String>, target: Option<&GuestTarget>) -> LinuxWish {
        let of_profile = target
            .and_then(|target| wish_of(&target.spec))
            .unwrap_or_default();
        let tty = tty.or_else(|| of_profile.live.kgdb.map(|(tty, _)| tty));
        let kgdb = tty.map(|tty| (tty, self.baud));
        let entry = of_profile.boot.entry;
        let entry = kgdb
            .clone()
            .filter(|_| self.boot_entry || entry.is_some())
            .map(|kgdb| EntryWish {
                kgdb,
                kgdbwait: self.kgdbwait || entry.as_ref().is_some_and(|entry| entry.kgdbwait),
                nokaslr: self.nokaslr || entry.as_ref().is_some_and(|entry| entry.nokaslr),
                append: self
                    .append
                    .clone()
                    .or_else(|| entry.and_then(|entry| entry.append)),
            });
        let console = of_profile.boot.console.map(|console| console.port.0);
        let console = self.console.clone().or(console);
        LinuxWish {
            live: LiveWish {
                sysrq: kgdb.is_some() || self.keep_sysrq,
                kgdb,
                keep_sysrq: self.keep_sysrq,
                log_level: self.log_level,
                no_echo: self.no_echo.clone(),
            },
            boot: BootWish {
                entry,
                once: self.once,
                console: console.map(|tty| ConsoleWish {
                    port: (tty, self.baud),
                    screen_last: self.main_console == MainConsole::Screen,
                }),
                menu: self.menu,
                menu_on: self.menu_on_serial.map(|unit| (unit, self.baud)),
            },
            autologin: self.autologin.clone().or(of_profile.autologin),
        }
    }
}
