//! Length-checked reading and writing of network byte order.
//!
//! [`Reader`] never panics and never reads past its slice; every successful read of a non-empty
//! item consumes at least one byte, so a parse loop always ends.

#![allow(
    clippy::missing_errors_doc,
    reason = "every read fails for one reason only, and it is the error's name"
)]

use std::fmt;

/// The bytes ended before the item did, or went on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("length does not fit the content")
    }
}

impl std::error::Error for Truncated {}

/// A cursor over bytes of the peer.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Takes the next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Truncated> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// Takes the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Takes an 8-bit number.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a 24-bit number.
    pub fn u24(&mut self) -> Result<u32, Truncated> {
        self.array::<3>()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Takes a 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a 48-bit number.
    pub fn u48(&mut self) -> Result<u64, Truncated> {
        self.array::<6>()
            .map(|[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Takes bytes whose length stands before them in 8 bits.
    pub fn vec8(&mut self) -> Result<&'a [u8], Truncated> {
        let length = self.u8()?;
        self.bytes(usize::from(length))
    }

    /// Takes bytes whose length stands before them in 16 bits.
    pub fn vec16(&mut self) -> Result<&'a [u8], Truncated> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// Takes bytes whose length stands before them in 24 bits.
    pub fn vec24(&mut self) -> Result<&'a [u8], Truncated> {
        let length = self.u24()?;
        self.bytes(length as usize)
    }

    /// Succeeds when nothing is left.
    pub fn expect_end(&self) -> Result<(), Truncated> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Truncated)
        }
    }
}

/// Appends numbers and vectors in network byte order to a byte vector.
pub trait Write {
    /// Appends a 16-bit number.
    fn put_u16(&mut self, value: u16);
    /// Appends the low 24 bits of a number.
    fn put_u24(&mut self, value: u32);
    /// Appends a 32-bit number.
    fn put_u32(&mut self, value: u32);
    /// Appends the low 48 bits of a number.
    fn put_u48(&mut self, value: u64);
    /// Appends what `body` appends, with its length before it in 8 bits.
    ///
    /// Panics when the body is longer than 255 bytes: our own messages are built within limits.
    fn put_vec8(&mut self, body: impl FnOnce(&mut Vec<u8>));
    /// The same with a length of 16 bits; panics above 65 535 bytes.
    fn put_vec16(&mut self, body: impl FnOnce(&mut Vec<u8>));
    /// The same with a length of 24 bits; panics above 16 777 215 bytes.
    fn put_vec24(&mut self, body: impl FnOnce(&mut Vec<u8>));
}

impl Write for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u24(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes()[1..]);
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u48(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes()[2..]);
    }

    fn put_vec8(&mut self, body: impl FnOnce(&mut Self)) {
        put_vec::<1>(self, body);
    }

    fn put_vec16(&mut self, body: impl FnOnce(&mut Self)) {
        put_vec::<2>(self, body);
    }

    fn put_vec24(&mut self, body: impl FnOnce(&mut Self)) {
        put_vec::<3>(self, body);
    }
}

/// Takes whole datagrams from protocol code; the caller knows to whom they go.
pub trait DatagramSink {
    /// Takes one datagram.
    fn push_datagram(&mut self, datagram: &[u8]);
}

impl DatagramSink for Vec<Vec<u8>> {
    fn push_datagram(&mut self, datagram: &[u8]) {
        self.push(datagram.to_vec());
    }
}

fn put_vec<const N: usize>(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; N]);
    body(out);
    let length = (out.len() - start - N).to_be_bytes();
    let (overflow, low) = length.split_at(length.len() - N);
    assert!(
        overflow.iter().all(|&byte| byte == 0),
        "a vector of our own is too long for its length field"
    );
    out[start..start + N].copy_from_slice(low);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        out.put_u16(0x0102);
        out.put_u24(0x03_0405);
        out.put_u32(0x0607_0809);
        out.put_u48(0x0a0b_0c0d_0e0f);
        out.put_vec8(|v| v.push(1));
        out.put_vec16(|v| v.put_vec24(|v| v.extend_from_slice(b"xy")));
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.u24(), Ok(0x0003_0405));
        assert_eq!(reader.u32(), Ok(0x0607_0809));
        assert_eq!(reader.u48(), Ok(0x0a0b_0c0d_0e0f));
        assert_eq!(reader.vec8(), Ok(&[1][..]));
        let mut inner = Reader::new(reader.vec16().unwrap());
        assert_eq!(inner.vec24(), Ok(&b"xy"[..]));
        assert_eq!(reader.expect_end(), Ok(()));
    }

    #[test]
    fn a_short_item_is_refused_and_consumes_nothing_of_the_body() {
        let mut reader = Reader::new(&[0, 5, 1]);
        assert_eq!(reader.vec16(), Err(Truncated));
        assert_eq!(Reader::new(&[1]).u16(), Err(Truncated));
        assert_eq!(Reader::new(&[1]).expect_end(), Err(Truncated));
    }
}
