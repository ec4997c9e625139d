//! Amounts on the command line: `100ms`, `1.5s`, `2m`; `4096`, `64KiB`, `1MiB`.

use std::time::Duration;

/// Parses a duration: a number with `ms`, `s`, `m` or `h`.
///
/// # Errors
///
/// What was expected, with an example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is no duration: expected a number with ms, s, m or h, as in 100ms");
    let unit_at = text
        .find(|character: char| character.is_ascii_alphabetic())
        .ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| expected())
}

/// Parses a number of bytes, with `KiB`, `MiB` or nothing behind it.
///
/// # Errors
///
/// What was expected, with an example.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let expected = || {
        format!("`{text}` is no number of bytes: expected a whole number, KiB or MiB behind it or nothing")
    };
    let unit_at = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(expected()),
    };
    let number: usize = number.trim().parse().map_err(|_| expected())?;
    number.checked_mul(scale).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(parse_duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(parse_bytes("64KiB").unwrap(), 65_536);
        assert_eq!(parse_bytes("7").unwrap(), 7);
        for wrong in ["", "5", "x", "-1s", "1y", "1e999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "-1", "1.5KiB", "1KB", "99999999999999999999"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
