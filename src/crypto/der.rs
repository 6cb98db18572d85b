//! Reading and writing of DER elements (ITU-T X.690), as far as keys and keystores need it.
//!
//! ```text
//! element = tag (1 byte, number below 31) | length (1 byte, or 0x80+n and n bytes) | body
//! ```
//! The reader never panics, never recurses and never allocates. It takes lengths that are longer
//! than they need be, as some Java tools write them, but no indefinite ones.

use crate::wire::{Reader, Truncated};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// One element: its tag and its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a>(Reader<'a>);

impl<'a> Elements<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Truncated> {
        let mut reader = self.0;
        let tag = reader.u8()?;
        if tag & 0x1f == 0x1f {
            return Err(Truncated);
        }
        let length = match reader.u8()? {
            short @ 0..=0x7f => usize::from(short),
            long @ 0x81..=0x84 => {
                let digits = reader.bytes(usize::from(long & 0x7f))?;
                digits
                    .iter()
                    .fold(0, |length, &digit| length << 8 | usize::from(digit))
            }
            _ => return Err(Truncated),
        };
        let body = reader.bytes(length)?;
        self.0 = reader;
        Ok(Element { tag, body })
    }

    /// Takes the next element, which must have this tag, and returns its content.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Truncated> {
        let element = self.next()?;
        if element.tag == tag {
            Ok(element.body)
        } else {
            Err(Truncated)
        }
    }

    /// Takes the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Truncated> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut ahead = *self;
        let element = ahead.next()?;
        if element.tag != tag {
            return Ok(None);
        }
        *self = ahead;
        Ok(Some(element.body))
    }

    /// Takes the next element as a constructed one and reads inside it.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, Truncated> {
        self.expect(tag).map(Self::new)
    }

    /// Succeeds when nothing is left.
    pub(crate) fn expect_end(&self) -> Result<(), Truncated> {
        self.0.expect_end()
    }
}

/// The content of the sequence that `bytes` are; nothing may follow it.
pub(crate) fn sequence(bytes: &[u8]) -> Result<Elements<'_>, Truncated> {
    let mut elements = Elements::new(bytes);
    let inner = elements.enter(SEQUENCE)?;
    elements.expect_end()?;
    Ok(inner)
}

/// The content of a bit string of whole bytes.
pub(crate) fn bit_string(body: &[u8]) -> Result<&[u8], Truncated> {
    match body.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(Truncated),
    }
}

/// The number in the body of an INTEGER that is not negative and fits 64 bits.
pub(crate) fn unsigned(body: &[u8]) -> Result<u64, Truncated> {
    let digits = match body.split_first() {
        Some((0, digits)) => digits,
        Some((1..=0x7f, _)) => body,
        _ => return Err(Truncated),
    };
    if digits.len() > 8 {
        return Err(Truncated);
    }
    Ok(digits
        .iter()
        .fold(0, |number, &digit| number << 8 | u64::from(digit)))
}

/// The bytes of an element with this tag whose body is `parts`, one after the other.
///
/// # Panics
///
/// When the body is 4 GiB or more.
pub(crate) fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits = u32::try_from(length)
        .expect("we write small files")
        .to_be_bytes();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match digits {
        [0, 0, 0, short @ 0..=0x7f] => out.push(short),
        [0, 0, 0, _] => out.extend_from_slice(&[0x81, digits[3]]),
        [0, 0, ..] => out.extend_from_slice(&[0x82, digits[2], digits[3]]),
        _ => {
            out.push(0x84);
            out.extend_from_slice(&digits);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_in_order() {
        let mut elements = sequence(&[0x30, 7, 2, 1, 5, 4, 0x81, 1, 9]).unwrap();
        assert_eq!(elements.optional(OID).unwrap(), None);
        assert_eq!(elements.expect(INTEGER).unwrap(), [5]);
        let octets = elements.next().unwrap();
        assert_eq!((octets.tag, octets.body), (OCTET_STRING, &[9][..]));
        assert!(elements.is_empty());
        assert!(elements.next().is_err());
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let body = vec![7; length];
            let (a, b) = body.split_at(length / 3);
            let bytes = encode(OCTET_STRING, &[a, b]);
            let mut elements = Elements::new(&bytes);
            assert_eq!(elements.expect(OCTET_STRING).unwrap(), body);
            assert!(elements.expect_end().is_ok());
        }
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(unsigned(&[0]), Ok(0));
        assert_eq!(unsigned(&[0, 0xff]), Ok(255));
        assert_eq!(unsigned(&[0x7f, 0xff]), Ok(32_767));
        assert_eq!(
            unsigned(&[0, 255, 255, 255, 255, 255, 255, 255, 255]),
            Ok(u64::MAX)
        );
        assert!(unsigned(&[]).is_err());
        assert!(unsigned(&[0x80]).is_err());
        assert!(unsigned(&[1; 9]).is_err());
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x3f, 1, 0],
            &[0x30, 0, 0],
        ] {
            assert!(sequence(bytes).is_err(), "{bytes:?}");
        }
    }
}
