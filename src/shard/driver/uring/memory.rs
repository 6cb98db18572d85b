//! The memory of a ring that the kernel uses: provided buffers, and outboxes that are being sent.
//!
//! A provided buffer holds one datagram behind its header:
//!
//! ```text
//! | io_uring_recvmsg_out: namelen controllen payloadlen flags | sender's address | payload ... |
//! 0                                                           16                 48         STRIDE
//! ```

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{opcode, squeue};
use socket2::SockAddr;

use crate::endpoint::{Outbox, Transmit};
use crate::shard::socket::{DATAGRAM_MAX, Datagram};

/// Outboxes that may be under way at once; usually each completes while it is submitted.
pub(super) const FLIGHTS: usize = 4;
/// Bytes before the sender's address in a provided buffer: four numbers of 32 bits.
const OUT_HEADER: usize = 16;
/// Room for a sender's address: a sockaddr_in6 has 28 bytes.
const NAME_ROOM: usize = 32;
/// Where the payload begins.
const PAYLOAD: usize = OUT_HEADER + NAME_ROOM;
/// Bytes from one buffer to the next, a whole number of cache lines.
const STRIDE: usize = (PAYLOAD + DATAGRAM_MAX).next_multiple_of(64);
/// The kernel wants the buffer ring on a page of its own.
const PAGE: usize = 4096;

/// Everything that operations under way point to.
pub(super) struct Memory {
    pub(super) buffers: BufferRing,
    pub(super) flights: [Flight; FLIGHTS],
    /// What a multishot recvmsg is told: how much room the address has.
    pub(super) header: Box<libc::msghdr>,
    /// Where the count of an event goes; only its arrival matters.
    pub(super) wake_value: Box<u64>,
}

impl Memory {
    pub(super) fn new(buffers: u16) -> Self {
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_namelen = NAME_LENGTH;
        Self {
            buffers: BufferRing::new(buffers),
            flights: Default::default(),
            header: Box::new(header),
            wake_value: Box::default(),
        }
    }

    pub(super) fn free_flight(&self) -> Option<usize> {
        self.flights.iter().position(|flight| flight.under_way == 0)
    }

    pub(super) fn end_send(&mut self, flight: usize) {
        if let Some(flight) = self.flights.get_mut(flight) {
            flight.under_way = flight.under_way.saturating_sub(1);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "32")]
const NAME_LENGTH: libc::socklen_t = NAME_ROOM as _;

/// An outbox under way: the arena in which its datagrams were built, and their addresses.
#[derive(Default)]
pub(super) struct Flight {
    bytes: Vec<u8>,
    pub(super) transmits: Vec<Transmit>,
    addresses: Vec<SockAddr>,
    pub(super) under_way: usize,
}

impl Flight {
    /// Takes over the outbox's arena, and gives it the one of the last time.
    pub(super) fn load(&mut self, outbox: &mut Outbox) {
        outbox.swap_transmits(&mut self.bytes, &mut self.transmits);
        self.addresses.clear();
        let addresses = self.transmits.iter().map(|t| SockAddr::from(t.to));
        self.addresses.extend(addresses);
    }

    /// The send of one of its datagrams. The pointers are good until the next [`Self::load`].
    pub(super) fn entry(&self, index: usize, port: u8, flags: i32) -> squeue::Entry {
        let bytes = &self.bytes[self.transmits[index].range.clone()];
        let address = &self.addresses[index];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        opcode::Send::new(Fixed(port.into()), bytes.as_ptr(), length)
            .flags(flags)
            .dest_addr(address.as_ptr().cast())
            .dest_addr_len(address.len())
            .build()
    }
}

/// The provided buffers, and the ring of entries that lends them to the kernel.
///
/// A buffer is the kernel's from [`Self::give`] until a completion names it, then ours until it is
/// given again.
pub(super) struct BufferRing {
    pub(super) entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    pub(super) count: u16,
    tail: u16,
}

impl BufferRing {
    /// `count` buffers, a power of two; none is given yet.
    fn new(count: u16) -> Self {
        let entries = allocate(Self::entries_layout(count)).cast();
        let memory = allocate(Self::memory_layout(count));
        Self {
            entries,
            memory,
            count,
            tail: 0,
        }
    }

    fn entries_layout(count: u16) -> Layout {
        let size = usize::from(count) * mem::size_of::<BufRingEntry>();
        Layout::from_size_align(size, PAGE).unwrap_or_else(|_| unreachable!("at most a MiB"))
    }

    fn memory_layout(count: u16) -> Layout {
        let size = usize::from(count) * STRIDE;
        Layout::from_size_align(size, 64).unwrap_or_else(|_| unreachable!("at most 300 MiB"))
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        assert!(
            id < self.count,
            "the kernel names buffers that it was given"
        );
        // SAFETY: within the allocation, as the assertion says.
        unsafe { self.memory.add(usize::from(id) * STRIDE) }
    }

    /// Begins anew with no buffer lent. The kernel has let go of the ring, and counts from its start.
    pub(super) fn take_back(&mut self) {
        self.tail = 0;
    }

    /// Lends a buffer to the kernel with the next [`Self::publish`].
    pub(super) fn give(&mut self, id: u16) {
        let address = self.buffer(id).as_ptr() as u64;
        let place = self.tail & (self.count - 1);
        // SAFETY: within the allocation; the kernel does not read entries beyond the published tail.
        let entry = unsafe { self.entries.add(usize::from(place)).as_mut() };
        entry.set_addr(address);
        entry.set_len(BUFFER_LENGTH);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Tells the kernel of all buffers given so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the first entry is initialized (zeroed at least).
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is an aligned 16-bit number, which the kernel reads and only we write.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `length` bytes of a buffer that a completion named and that was not given since.
    pub(super) fn bytes(&mut self, id: u16, length: usize) -> &mut [u8] {
        let start = self.buffer(id);
        // SAFETY: within the buffer, and initialized (zeroed at least); the kernel has given it up, and
        // the borrow of `self` keeps it from being lent again.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length.min(STRIDE)) }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no slice of it can be alive.
        unsafe { dealloc(self.memory.as_ptr(), Self::memory_layout(self.count)) };
        let entries = self.entries.as_ptr().cast();
        // SAFETY: the same.
        unsafe { dealloc(entries, Self::entries_layout(self.count)) };
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a few thousand")]
const BUFFER_LENGTH: u32 = (PAYLOAD + DATAGRAM_MAX) as u32;

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0, "a ring has buffers");
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Who sent what is in a received buffer; `None` when the address is none of the internet's.
pub(super) fn sender(buffer: &[u8]) -> Option<SocketAddr> {
    address(buffer.get(OUT_HEADER..PAYLOAD)?)
}

/// Takes a received buffer apart; `None` when the address is none of the internet's.
pub(super) fn parse(buffer: &mut [u8]) -> Option<Datagram<'_>> {
    let (header, rest) = buffer.split_at_mut_checked(OUT_HEADER)?;
    let (name, bytes) = rest.split_at_mut_checked(NAME_ROOM)?;
    let flags = u32::from_ne_bytes(header[12..16].try_into().ok()?);
    Some(Datagram {
        from: address(name)?,
        bytes,
        truncated: flags & MSG_TRUNC != 0,
    })
}

const MSG_TRUNC: u32 = libc::MSG_TRUNC.cast_unsigned();

/// A sockaddr_in or sockaddr_in6.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.first_chunk().copied()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(name.get(4..8)?.try_into().ok()?);
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}
