//! Numbers for people.

use tidegate::time::Duration;

/// A whole number with a thin gap at the thousands: `12 345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number per second: whole from 100 on, with one digit below.
pub(crate) fn rate(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate: positive, below 2^53"
    )]
    grouped(number.round() as u64)
}

/// Microseconds in the unit that reads best: `870 us`, `1.23 ms`, `12.5 s`.
pub(crate) fn micros(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = us as f64;
    match us {
        0..1000 => format!("{us} us"),
        1000..10_000 => format!("{:.2} ms", number / 1e3),
        10_000..100_000 => format!("{:.1} ms", number / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", number / 1e3),
        _ => format!("{:.2} s", number / 1e6),
    }
}

/// A time in the unit that reads best, without digits that say nothing: `1 ms`, `2.5 s`, `93 s`, `10 min`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (number, unit) = match time.as_micros() {
        0..1000 => (seconds * 1e6, "us"),
        1000..1_000_000 => (seconds * 1e3, "ms"),
        1_000_000..120_000_000 => (seconds, "s"),
        120_000_000..7_200_000_000 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    let number = (number * 10.0).round() / 10.0;
    format!("{number} {unit}")
}

/// Bytes in the unit that reads best.
pub(crate) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64;
    match bytes {
        0..10_240 => format!("{} B", grouped(bytes)),
        10_240..10_485_760 => format!("{:.1} KiB", number / 1024.0),
        _ => format!("{:.1} MiB", number / 1_048_576.0),
    }
}

/// A response code as RFC 7252 writes it: `4.01 Unauthorized`.
pub(crate) fn response_code(code: u8) -> String {
    let name = match code {
        0x80 => " Bad Request",
        0x81 => " Unauthorized",
        0x82 => " Bad Option",
        0x83 => " Forbidden",
        0x84 => " Not Found",
        0x85 => " Method Not Allowed",
        0x86 => " Not Acceptable",
        0x8c => " Precondition Failed",
        0x8d => " Request Entity Too Large",
        0x8f => " Unsupported Content-Format",
        0xa0 => " Internal Server Error",
        0xa3 => " Service Unavailable",
        0xa4 => " Gateway Timeout",
        _ => "",
    };
    format!("{}.{:02}{name}", code >> 5, code & 0x1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!([0.0, 12.34, 12_345.6].map(rate), ["0.0", "12.3", "12 346"]);
        assert_eq!(
            [1, 999, 1234, 12_345, 123_456, 12_345_678].map(micros),
            ["1 us", "999 us", "1.23 ms", "12.3 ms", "123 ms", "12.35 s"]
        );
        assert_eq!(
            [1, 93_000, 1_500, 250, 7_250, 600_000, 9_000_000]
                .map(|ms| span(Duration::from_millis(ms))),
            [
                "1 ms", "93 s", "1.5 s", "250 ms", "7.3 s", "10 min", "2.5 h"
            ]
        );
        assert_eq!(span(Duration::from_micros(400)), "400 us");
        assert_eq!(
            [512, 20_480, 20 << 20].map(bytes),
            ["512 B", "20.0 KiB", "20.0 MiB"]
        );
        assert_eq!(
            [0x81, 0xa3, 0x45].map(response_code),
            ["4.01 Unauthorized", "5.03 Service Unavailable", "2.05"]
        );
    }
}
