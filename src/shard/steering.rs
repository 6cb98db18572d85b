//! Delivers a datagram with a connection id to the shard that owns it, in the kernel.
//!
//! The first byte of our connection ids is the number of the shard that gave it out (RFC 9146 leaves
//! its content to us). A classic BPF program on the reuseport group reads it from the record header:
//!
//! ```text
//!  0      1         3        5           11                              UDP payload
//!  | type | version | epoch  | sequence  | cid[0] cid[1] ...  | length | ...
//!    = 25 (tls12_cid)                      = index of the socket in the group
//! ```
//!
//! The kernel takes the program's result as an index in the order of binding, which is that of the
//! shards, and falls back to the hash of the 4-tuple when no socket has it. So whatever has no
//! connection id, is too short to have one, or names no shard, is spread as ever. No privilege is
//! needed. Whoever forges the byte chooses the shard that drops the record, and gains nothing that
//! choosing a source port would not give.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use super::socket::Socket;

/// Content type of records with a connection id (RFC 9146 section 4).
const TLS12_CID: u8 = 25;
/// Where the connection id begins in such a record.
const CID_OFFSET: u32 = 11;
/// An index that no group has: the kernel hashes the 4-tuple.
const NO_SOCKET: u32 = u32::MAX;

/// The shard named by the first record of a datagram, when that has a connection id.
///
/// What the kernel's program does, for the datagrams that it did not see.
pub fn named_shard(datagram: &[u8]) -> Option<u16> {
    match datagram {
        [TLS12_CID, ..] => datagram
            .get(CID_OFFSET as usize)
            .map(|&shard| u16::from(shard)),
        _ => None,
    }
}

/// Attaches the program to the reuseport group of `member`; all members have it from then on.
///
/// Only right when our connection ids have at least one byte.
///
/// # Errors
/// When the kernel refuses (it is older than 4.5, or a sandbox forbids it). Datagrams then reach
/// shards by their addresses, and those in between hand them over.
pub fn attach(member: &Socket) -> io::Result<()> {
    let mut program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_mut_ptr(),
    };
    let length = libc::socklen_t::try_from(mem::size_of::<libc::sock_fprog>())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the option's value is a live sock_fprog of that length, which points to as many live
    // instructions as it says; the kernel copies both and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            member.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The instructions. The length comes first: a load beyond the end of a datagram would end the
/// program with 0, and give every short datagram to shard 0.
fn program() -> [libc::sock_filter; 7] {
    const FIRST_LEN: u32 = CID_OFFSET + 1;
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
        jump(libc::BPF_JGE, FIRST_LEN, 0, 4),
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0),
        jump(libc::BPF_JEQ, TLS12_CID.into(), 0, 2),
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, FIRST_LEN - 1),
        statement(libc::BPF_RET | libc::BPF_A, 0),
        statement(libc::BPF_RET | libc::BPF_K, NO_SOCKET),
    ]
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: operation(code),
        jt: 0,
        jf: 0,
        k,
    }
}

/// Compares with a constant; `yes` and `no` are instructions to skip.
fn jump(comparison: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: operation(libc::BPF_JMP | comparison | libc::BPF_K),
        jt: yes,
        jf: no,
        k,
    }
}

/// Operation codes are below 256, whatever the type of their constants.
fn operation(code: u32) -> u16 {
    u16::try_from(code).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
