//! The console: keys as events, so that a question can be given up while nobody types.

use super::super::Typed;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::windows::io::AsRawHandle as _;
use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, CTRL_C_EVENT, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT, ENABLE_PROCESSED_INPUT,
    ENABLE_VIRTUAL_TERMINAL_INPUT, GenerateConsoleCtrlEvent, GetConsoleMode, INPUT_RECORD, KEY_EVENT,
    ReadConsoleInputW, SetConsoleMode, WriteConsoleW,
};
use windows_sys::Win32::System::Threading::WaitForSingleObject;

/// How often an unanswered question looks whether anybody still wants the answer, in milliseconds.
const LOOK: u32 = 100;

/// The key Alt: a character that was typed as a number comes when it is let go (`VK_MENU`).
const ALT: u16 = 0x12;

const INTERRUPT: u16 = 0x03;
const BACKSPACE: u16 = 0x08;
const ERASE_LINE: u16 = 0x15;
const END: u16 = 0x1a;

/// The console of this process.
pub struct Device {
    input: File,
    output: File,
}

/// The console's mode is put back on every way out.
struct Mode<'a> {
    input: &'a File,
    before: CONSOLE_MODE,
    told: Option<&'a dyn Fn(bool)>,
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        // SAFETY: no pointers; the handle is open. A console that is gone need not be restored.
        unsafe { SetConsoleMode(handle(self.input), self.before) };
        if let Some(told) = self.told {
            told(false);
        }
    }
}

fn handle(file: &File) -> HANDLE {
    file.as_raw_handle()
}

impl Device {
    /// Opens the console; `None` if standard input is none.
    pub fn open() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let open = |name: &str| OpenOptions::new().read(true).write(true).open(name).ok();
        Some(Self {
            input: open("CONIN$")?,
            output: open("CONOUT$")?,
        })
    }

    /// Asks for a line, shown or not; `silent` is told when the console stops to echo and when it does so again.
    pub fn ask(
        &self,
        question: &str,
        echo: bool,
        given_up: &dyn Fn() -> bool,
        silent: &dyn Fn(bool),
    ) -> Typed {
        self.try_to_ask(question, echo, given_up, silent)
            .unwrap_or(Typed::Nothing)
    }

    fn try_to_ask(
        &self,
        question: &str,
        echo: bool,
        given_up: &dyn Fn() -> bool,
        silent: &dyn Fn(bool),
    ) -> Option<Typed> {
        let mut before = 0;
        // SAFETY: `before` is a valid place for the result.
        if unsafe { GetConsoleMode(handle(&self.input), &raw mut before) } == 0 {
            return None;
        }
        let mut mode = before & !(ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT | ENABLE_VIRTUAL_TERMINAL_INPUT);
        if !echo {
            // Ctrl-C could end the process while the console is silent: here it ends the line.
            mode &= !ENABLE_PROCESSED_INPUT;
            silent(true);
        }
        let changed = Mode {
            input: &self.input,
            before,
            told: (!echo).then_some(silent),
        };
        // SAFETY: no pointers; the handle is open.
        if unsafe { SetConsoleMode(handle(&self.input), mode) } == 0 {
            return None;
        }
        self.say(&question.replace('\n', "\r\n"))?;
        let mut line = Line::new(echo);
        loop {
            if given_up() {
                self.say("\r\n");
                return None;
            }
            for unit in self.units()? {
                let (shown, typed) = line.take(unit);
                self.say(&shown)?;
                match typed {
                    None => {}
                    Some(Typed::Interrupted) => {
                        drop(changed);
                        // What it does to the process is the process's own matter.
                        // SAFETY: no pointers.
                        unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) };
                        return Some(Typed::Interrupted);
                    }
                    Some(typed) => return Some(typed),
                }
            }
        }
    }

    fn say(&self, text: &str) -> Option<()> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut rest = units.as_slice();
        while !rest.is_empty() {
            let mut written = 0;
            let count = u32::try_from(rest.len()).ok()?;
            // SAFETY: `rest` has that many units, `written` is a valid place, and the reserved pointer has to be null.
            let done = unsafe {
                WriteConsoleW(
                    handle(&self.output),
                    rest.as_ptr(),
                    count,
                    &raw mut written,
                    std::ptr::null(),
                )
            };
            if done == 0 || written == 0 {
                return None;
            }
            rest = rest.get(usize::try_from(written).ok()?..)?;
        }
        Some(())
    }

    /// Returns what was typed since, waiting a little; `None` if the console is gone.
    fn units(&self) -> Option<Vec<u16>> {
        // SAFETY: the handle is open.
        match unsafe { WaitForSingleObject(handle(&self.input), LOOK) } {
            WAIT_OBJECT_0 => {}
            WAIT_TIMEOUT => return Some(Vec::new()),
            _ => return None,
        }
        let mut events = [INPUT_RECORD::default(); 32];
        let mut count = 0;
        // SAFETY: `events` has 32 places, and `count` is a valid place for how many were filled.
        if unsafe { ReadConsoleInputW(handle(&self.input), events.as_mut_ptr(), 32, &raw mut count) } == 0 {
            return None;
        }
        let mut units = Vec::new();
        for event in events.iter().take(usize::try_from(count).ok()?) {
            if u32::from(event.EventType) != KEY_EVENT {
                continue;
            }
            // SAFETY: an event of this type has this form, and every key its character.
            let (key, unit) = unsafe {
                let key = event.Event.KeyEvent;
                (key, key.uChar.UnicodeChar)
            };
            if unit != 0 && (key.bKeyDown != 0 || key.wVirtualKeyCode == ALT) {
                units.extend(std::iter::repeat_n(unit, usize::from(key.wRepeatCount.max(1))));
            }
        }
        Some(units)
    }
}

/// A line while it is typed.
struct Line {
    units: Vec<u16>,
    echo: bool,
}

impl Line {
    fn new(echo: bool) -> Self {
        Self {
            units: Vec::new(),
            echo,
        }
    }

    /// Takes a key; returns what is to be shown for it, and the answer when it is whole.
    fn take(&mut self, unit: u16) -> (String, Option<Typed>) {
        let newline = || "\r\n".to_owned();
        match unit {
            0x0d | 0x0a => {
                let line = String::from_utf16(&self.units);
                (newline(), Some(line.map_or(Typed::Nothing, Typed::Line)))
            }
            INTERRUPT => (newline(), Some(Typed::Interrupted)),
            END if self.units.is_empty() => (newline(), Some(Typed::Nothing)),
            BACKSPACE => (self.erase(1), None),
            ERASE_LINE => (self.erase(usize::MAX), None),
            0..0x20 | 0x7f => (String::new(), None),
            unit => {
                self.units.push(unit);
                let is_half = (0xd800..0xe000).contains(&unit);
                let shown = match (self.echo, is_half) {
                    (false, _) => String::new(),
                    (true, false) => String::from_utf16_lossy(&[unit]),
                    (true, true) => self.whole().unwrap_or_default(),
                };
                (shown, None)
            }
        }
    }

    /// Returns the last character if it has two units and both are there.
    fn whole(&self) -> Option<String> {
        let from = self.units.len().checked_sub(2)?;
        String::from_utf16(self.units.get(from..)?).ok()
    }

    fn erase(&mut self, most: usize) -> String {
        let mut shown = String::new();
        for _ in 0..most {
            let Some(last) = self.units.pop() else { break };
            if (0xdc00..0xe000).contains(&last) {
                self.units.pop();
            }
            if self.echo {
                shown.push_str("\u{8} \u{8}");
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, echo: bool) -> (String, Option<Typed>) {
        let mut line = Line::new(echo);
        let mut all = String::new();
        for unit in keys.encode_utf16() {
            let (shown, typed) = line.take(unit);
            all.push_str(&shown);
            if typed.is_some() {
                return (all, typed);
            }
        }
        (all, None)
    }

    #[test]
    fn a_line_is_typed_and_mended() {
        let line = |text: &str| Some(Typed::Line(text.to_owned()));
        assert_eq!(typed("ab\r", true), ("ab\r\n".into(), line("ab")));
        assert_eq!(typed("ab\r", false), ("\r\n".into(), line("ab")));
        assert_eq!(typed("\u{8}a😀\u{8}ü\t\r", false).1, line("aü"));
        assert_eq!(
            typed("a😀\u{8}b\r", true).0,
            "a😀\u{8} \u{8}b\r\n",
            "a character of two units is one"
        );
        assert_eq!(typed("wrong\u{15}right\r", false).1, line("right"));
        assert_eq!(typed("ab\u{3}", false).1, Some(Typed::Interrupted));
        assert_eq!(typed("\u{1a}", true).1, Some(Typed::Nothing));
        assert_eq!(typed("a\u{1a}\r", true).1, line("a"));
        assert_eq!(typed("a", true).1, None);
    }
}
