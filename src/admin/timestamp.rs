//! Points in time as people and programs write them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads milliseconds since the UNIX epoch, or a time as in RFC 3339
/// (`2026-11-23T18:00:00Z`, `2026-11-23T19:00:00.5+01:00`).
///
/// # Errors
///
/// Says what would do.
pub fn parse(text: &str) -> Result<i64, &'static str> {
    const REMEDY: &str =
        "write milliseconds since 1970, or a time of RFC 3339 as 2026-11-23T18:00:00Z";
    let text = text.trim();
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| REMEDY)?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| REMEDY)
}

/// Milliseconds since the UNIX epoch as in RFC 3339, UTC; as the number they are when the year has
/// more than four digits.
pub fn format(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("-1", -1),
            (" 1700000000000 ", 1_700_000_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T18:00:00Z", 1_795_456_800_000),
            ("2026-11-23T19:00:00.123+01:00", 1_795_456_800_123),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        for text in ["", "yesterday", "2026-11-23", "2026-13-01T00:00:00Z", "1e3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(1_795_456_800_123), "2026-11-23T18:00:00.123Z");
        assert_eq!(format(i64::MAX), i64::MAX.to_string());
        assert_eq!(format(i64::MIN), i64::MIN.to_string());
    }
}
