//! Which number becomes what (TB section 7.2): by its lexeme, as ThingsBoard does it with Java's
//! `BigDecimal`, without ever expanding an exponent beyond [`PLAIN_DIGITS_MAX`] digits.
//!
//! | written | scale (decimals minus exponent) | becomes |
//! |---|---|---|
//! | integral value, not of the form `d.d` | any | LONG, or text in plain digits beyond 64 bits |
//! | otherwise | at most 16 | DOUBLE |
//! | otherwise | above 16 | text in plain digits |

/// Most decimals of a DOUBLE.
const DECIMALS_MAX: i64 = 16;

/// Most digits that a number may have when written plainly. The longest double has 309; a few bytes
/// of exponent must not become kilobytes of digits.
pub const PLAIN_DIGITS_MAX: usize = 350;

/// What a number becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// An integer of 64 bits.
    Long(i64),
    /// A number with a fraction.
    Double(f64),
    /// Too large or too precise for either: its plain digits.
    Plain(String),
    /// Longer than [`PLAIN_DIGITS_MAX`] when written plainly.
    Excessive,
}

/// Classifies a number of the grammar `-?digits?[.digits][(e|E)[+|-]digits]` with at least one
/// digit before the exponent. Any other text gives some value or other, and no panic.
pub fn classify(lexeme: &str) -> Number {
    if let Some(long) = plain_long(lexeme) {
        return Number::Long(long);
    }
    let decimal = Decimal::new(lexeme);
    let has_exponent = lexeme.contains(['e', 'E']);
    let simple_double = lexeme.contains('.') && !has_exponent;
    if decimal.is_integral() && !simple_double {
        return match decimal.to_long() {
            Some(long) => Number::Long(long),
            None => decimal.to_plain(),
        };
    }
    if decimal.scale > DECIMALS_MAX {
        return decimal.to_plain();
    }
    if decimal.is_zero() {
        // BigDecimal has no negative zero.
        return Number::Double(0.0);
    }
    match lexeme.parse::<f64>() {
        Ok(double) if double.is_finite() => Number::Double(double),
        _ => decimal.to_plain(),
    }
}

/// Whether a string is cast to a number (`JSON_TYPE_CAST_ENABLED`): `-?digits[.digits]`, also
/// without digits before the point; never with an exponent.
pub fn is_castable(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let points = unsigned.bytes().filter(|&byte| byte == b'.').count();
    !unsigned.is_empty()
        && !unsigned.ends_with('.')
        && points <= 1
        && unsigned
            .bytes()
            .all(|byte| byte == b'.' || byte.is_ascii_digit())
}

/// The usual case, without a detour: a few digits and perhaps a sign.
fn plain_long(lexeme: &str) -> Option<i64> {
    let digits = lexeme.strip_prefix('-').unwrap_or(lexeme);
    let short = (1..=18).contains(&digits.len());
    (short && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| lexeme.parse().ok())
        .flatten()
}

/// A number as digits and the place of the point: digits x 10^-scale.
struct Decimal<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    /// Decimals minus exponent, saturated far outside of what is expanded.
    scale: i64,
}

impl<'a> Decimal<'a> {
    fn new(lexeme: &'a str) -> Self {
        let (mantissa, exponent) = lexeme.split_once(['e', 'E']).unwrap_or((lexeme, "0"));
        let negative = mantissa.starts_with('-');
        let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let decimals = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let beyond = if exponent.starts_with('-') {
            i64::MIN / 2
        } else {
            i64::MAX / 2
        };
        let exponent = exponent.parse().unwrap_or(beyond);
        Self {
            negative,
            integer,
            fraction,
            scale: decimals.saturating_sub(exponent),
        }
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = char> + Clone + use<'a> {
        self.integer.chars().chain(self.fraction.chars())
    }

    fn is_zero(&self) -> bool {
        self.digits().all(|digit| digit == '0')
    }

    fn is_integral(&self) -> bool {
        let zeros = self
            .digits()
            .rev()
            .take_while(|&digit| digit == '0')
            .count();
        self.is_zero() || self.scale <= i64::try_from(zeros).unwrap_or(i64::MAX)
    }

    /// The value, if it is integral and fits.
    fn to_long(&self) -> Option<i64> {
        if self.is_zero() {
            return Some(0);
        }
        let places = self.digits().count();
        let kept = i64::try_from(places).ok()?.checked_sub(self.scale)?;
        let leading = self.digits().take_while(|&digit| digit == '0').count();
        if kept > i64::try_from(leading).ok()?.checked_add(19)? {
            return None;
        }
        let digits = self.digits().chain(std::iter::repeat('0'));
        let mut value = 0_i64;
        for digit in digits.take(usize::try_from(kept).ok()?) {
            let digit = i64::from(digit.to_digit(10)?);
            let signed = if self.negative { -digit } else { digit };
            value = value.checked_mul(10)?.checked_add(signed)?;
        }
        Some(value)
    }

    /// The digits without exponent, as `BigDecimal.toPlainString` prints them.
    fn to_plain(&self) -> Number {
        let digits: String = self.digits().skip_while(|&digit| digit == '0').collect();
        let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let expanded = length
            .max(self.scale)
            .max(length.saturating_sub(self.scale));
        let Some(expanded) = usize::try_from(expanded)
            .ok()
            .filter(|&n| n <= PLAIN_DIGITS_MAX)
        else {
            return Number::Excessive;
        };
        let sign = if self.negative { "-" } else { "" };
        Number::Plain(match usize::try_from(self.scale) {
            Ok(0) => format!("{sign}{digits}"),
            Ok(scale) => {
                let padded = format!("{digits:0>width$}", width = scale + 1);
                let (integer, fraction) = padded.split_at(padded.len() - scale);
                format!("{sign}{integer}.{fraction}")
            }
            Err(_) => format!("{sign}{digits:0<expanded$}"),
        })
    }
}
