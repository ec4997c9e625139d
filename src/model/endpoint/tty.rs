//! The settings of a serial line, as options of a `tty:` endpoint, or of an `rfc2217:` one that is connected to.

use std::fmt;

/// What is written of a terminal device's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TtySettings {
    /// Bits per second; `None` leaves the device's own.
    pub baud_rate: Option<u32>,
    /// Bits of a character, 5 to 8; `None` is 8.
    pub data_bits: Option<u8>,
    /// `None` is none.
    pub parity: Option<Parity>,
    /// 1 or 2; `None` is 1.
    pub stop_bits: Option<u8>,
    /// `None` is none.
    pub flow: Option<FlowControl>,
}

/// The parity bit of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parity {
    /// There is none.
    None,
    /// The ones are even in number.
    Even,
    /// The ones are odd in number.
    Odd,
}

/// How the two ends of a line hold each other back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowControl {
    /// They do not.
    None,
    /// By the lines RTS and CTS.
    RtsCts,
    /// By the characters XON and XOFF, which then are no data.
    XonXoff,
}

impl Parity {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }
}

impl FlowControl {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RtsCts => "rtscts",
            Self::XonXoff => "xonxoff",
        }
    }
}

impl TtySettings {
    /// The names of the options.
    pub(super) const OPTIONS: [&str; 5] = ["baud", "data", "parity", "stop", "flow"];

    /// Takes one option. `None` if it is no option of a terminal device, an error says what its value should be.
    pub(super) fn apply(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        let digit =
            |range: std::ops::RangeInclusive<u8>| value.parse().ok().filter(|bits| range.contains(bits));
        // `+9600` is a number to Rust and to nobody else.
        let all_digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let (is_good, expected) = match name {
            "baud" => {
                self.baud_rate = value.parse().ok().filter(|&rate: &u32| rate > 0);
                (
                    self.baud_rate.is_some() && all_digits,
                    "bits per second, a number above 0",
                )
            }
            "data" => {
                self.data_bits = digit(5..=8);
                (self.data_bits.is_some() && all_digits, "5, 6, 7 or 8 data bits")
            }
            "stop" => {
                self.stop_bits = digit(1..=2);
                (self.stop_bits.is_some() && all_digits, "1 or 2 stop bits")
            }
            "parity" => {
                let all = [Parity::None, Parity::Even, Parity::Odd];
                self.parity = all.into_iter().find(|parity| parity.name() == value);
                (self.parity.is_some(), "none, even or odd")
            }
            "flow" => {
                let all = [FlowControl::None, FlowControl::RtsCts, FlowControl::XonXoff];
                self.flow = all.into_iter().find(|flow| flow.name() == value);
                (self.flow.is_some(), "none, rtscts or xonxoff")
            }
            _ => return None,
        };
        Some(if is_good { Ok(()) } else { Err(expected) })
    }
}

impl fmt::Display for TtySettings {
    /// Writes the options, each with its comma in front.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.baud_rate {
            write!(formatter, ",baud={rate}")?;
        }
        if let Some(bits) = self.data_bits {
            write!(formatter, ",data={bits}")?;
        }
        if let Some(parity) = self.parity {
            write!(formatter, ",parity={}", parity.name())?;
        }
        if let Some(bits) = self.stop_bits {
            write!(formatter, ",stop={bits}")?;
        }
        if let Some(flow) = self.flow {
            write!(formatter, ",flow={}", flow.name())?;
        }
        Ok(())
    }
}
