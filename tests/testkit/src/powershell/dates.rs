//! What PowerShell 7 takes for a date in JSON (Json.NET, `DateParseHandling.DateTime`): it reads `2024-01-01T00:00:00` and
//! `/Date(0)/` as dates, 5.1 neither of them.

/// Tells whether a text becomes a date.
pub fn is_date(text: &str) -> bool {
    let old = text
        .strip_prefix("/Date(")
        .and_then(|rest| rest.strip_suffix(")/"));
    if let Some(milliseconds) = old {
        return milliseconds.parse::<i64>().is_ok();
    }
    let form = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    (19..=40).contains(&text.len()) && text.bytes().take(19).enumerate().all(form)
}

/// Returns how such a date is written when a text is wanted of it.
pub fn written(text: &str) -> String {
    match (text.get(..4), text.get(5..7), text.get(8..10), text.get(11..19)) {
        (Some(year), Some(month), Some(day), Some(time)) if !text.starts_with('/') => {
            format!("{month}/{day}/{year} {time}")
        }
        _ => "01/01/1970 00:00:00".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_7_takes_for_a_date() {
        for text in [
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.1234567+02:00",
            "/Date(0)/",
        ] {
            assert!(is_date(text), "{text}");
            assert!(!is_date(&format!("={text}")), "{text}");
        }
        for text in ["", "2024-01-01", "2024-01-01 00:00:00", "dev", "/Date(x)/"] {
            assert!(!is_date(text), "{text}");
        }
        assert_eq!(written("2024-02-03T04:05:06Z"), "02/03/2024 04:05:06");
    }
}
