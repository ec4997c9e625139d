//! `--since`: where a console begins to read.

use crate::bridge::control::Since;
use crate::cli::quantity::parse_duration;
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use std::time::Duration;

/// What the user wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinceArg {
    /// `now`.
    Now,
    /// `start`: all that is kept.
    Start,
    /// `boot`: the latest boot.
    Boot,
    /// A number: the offset in the target's stream.
    Offset(u64),
    /// A duration: so long ago.
    Ago(Duration),
    /// A time of day, today or yesterday.
    TimeOfDay(jiff::civil::Time),
    /// A time with its date and zone.
    Time(Timestamp),
}

impl SinceArg {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What was expected, with examples.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "now" => return Ok(Self::Now),
            "start" => return Ok(Self::Start),
            "boot" => return Ok(Self::Boot),
            _ => {}
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map(Self::Offset)
                .map_err(|_| format!("`{text}` is no offset: it is too big"));
        }
        if let Ok(duration) = parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        if text.len() <= 8
            && text.contains(':')
            && let Ok(time) = text.parse()
        {
            return Ok(Self::TimeOfDay(time));
        }
        Err(format!(
            "`{text}` is no place in a console: expected now, start, boot, an offset as in 4096, a duration as in 5m, \
             a time as in 14:05 or 2026-11-21T14:05:00Z"
        ))
    }

    /// Puts it as the port's owner is asked.
    pub fn at(self, now: &Zoned) -> Since {
        match self {
            Self::Now => Since::Now,
            Self::Start => Since::Offset(0),
            Self::Boot => Since::Boot,
            Self::Offset(offset) => Since::Offset(offset),
            Self::Ago(duration) => {
                let ago = SignedDuration::try_from(duration).ok();
                let time = ago.and_then(|ago| now.timestamp().checked_sub(ago).ok());
                time.map_or(Since::Offset(0), Since::Time)
            }
            Self::TimeOfDay(time) => {
                let today = now.with().time(time).build();
                let wanted = today.and_then(|today| {
                    if &today > now {
                        today.checked_sub(Span::new().days(1))
                    } else {
                        Ok(today)
                    }
                });
                wanted.map_or(Since::Offset(0), |wanted| Since::Time(wanted.timestamp()))
            }
            Self::Time(time) => Since::Time(time),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_place_is_a_word_a_number_a_duration_or_a_time() {
        let now: Zoned = "2026-11-21T10:00:00+02:00[+02:00]".parse().unwrap();
        let time = |text: &str| Since::Time(text.parse().unwrap());
        for (text, since) in [
            ("now", Since::Now),
            ("start", Since::Offset(0)),
            ("boot", Since::Boot),
            ("4096", Since::Offset(4096)),
            ("90s", time("2026-11-21T07:58:30Z")),
            ("1.5h", time("2026-11-21T06:30:00Z")),
            ("09:30", time("2026-11-21T07:30:00Z")),
            ("10:00:01", time("2026-11-20T08:00:01Z")),
            ("2026-11-20T12:00:00Z", time("2026-11-20T12:00:00Z")),
            ("2026-11-20T12:00:00+01:00", time("2026-11-20T11:00:00Z")),
        ] {
            assert_eq!(SinceArg::parse(text).unwrap().at(&now), since, "{text}");
        }
        for wrong in [
            "",
            "then",
            "-5",
            "5",
            "25:00",
            "12:00:00Z",
            "99999999999999999999",
        ] {
            assert_eq!(SinceArg::parse(wrong).is_err(), wrong != "5", "{wrong}");
        }
    }
}
