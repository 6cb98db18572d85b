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

/// One element: its tag, its content, and both with the length between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
    pub(crate) raw: &'a [u8],
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
        let all = self.0.rest();
        let mut reader = Reader::new(all);
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
        let header = all.len() - reader.remaining();
        let body = reader.bytes(length)?;
        let raw = Reader::new(all).bytes(header + length)?;
        self.0 = reader;
        Ok(Element { tag, body, raw })
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
        match self.clone().next() {
            Ok(element) if element.tag == tag => self.next().map(|element| Some(element.body)),
            _ => Ok(None),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_in_order() {
        let mut elements = sequence(&[0x30, 7, 2, 1, 5, 4, 0x81, 1, 9]).unwrap();
        assert_eq!(elements.optional(OID).unwrap(), None);
        assert_eq!(elements.expect(INTEGER).unwrap(), [5]);
        let octets = elements.next().unwrap();
        assert_eq!(
            (octets.tag, octets.body, octets.raw),
            (OCTET_STRING, &[9][..], &[4, 0x81, 1, 9][..])
        );
        assert!(elements.is_empty());
        assert!(elements.next().is_err());
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
