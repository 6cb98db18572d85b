//! The memory of a ring that the kernel uses: provided buffers, and outboxes that are being sent.
//!
//! A provided buffer holds one datagram behind its header:
//!
//! ```text
//! | io_uring_recvmsg_out: namelen controllen payloadlen flags | sender's address | control messages | payload ... |
//! 0                                                           16                 48                 88         STRIDE
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

use crate::endpoint::{LocalAddress, Outbox, Transmit};
use crate::shard::local_addresses::{CONTROL_ROOM, Control, LocalAddresses};
use crate::shard::socket::{DATAGRAM_MAX, Datagram};

/// Outboxes that may be under way at once; usually each completes while it is submitted.
pub(super) const FLIGHTS: usize = 4;
/// Bytes before the sender's address in a provided buffer: four numbers of 32 bits.
const OUT_HEADER: usize = 16;
/// Room for a sender's address: a sockaddr_in6 has 28 bytes.
const NAME_ROOM: usize = 32;
/// Where control messages begin.
const CONTROL: usize = OUT_HEADER + NAME_ROOM;
/// Where the payload begins.
const PAYLOAD: usize = CONTROL + CONTROL_ROOM;
/// Bytes from one buffer to the next, a whole number of cache lines.
const STRIDE: usize = (PAYLOAD + DATAGRAM_MAX).next_multiple_of(64);
/// The kernel wants the buffer ring on a page of its own.
const PAGE: usize = 4096;

/// Everything that operations under way point to.
pub(super) struct Memory {
    pub(super) buffers: BufferRing,
    pub(super) flights: [Flight; FLIGHTS],
    /// What a multishot recvmsg is told: how much room the address has, and control messages.
    pub(super) header: Box<libc::msghdr>,
    /// Where the count of an event goes; only its arrival matters.
    pub(super) wake_value: Box<u64>,
}

impl Memory {
    pub(super) fn new(buffers: u16) -> Self {
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_namelen = NAME_LENGTH;
        header.msg_controllen = CONTROL_ROOM;
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

/// An outbox under way: the arena in which its datagrams were built, their addresses, and what says
/// from which of ours those leave that do not leave from the kernel's choice.
#[derive(Default)]
pub(super) struct Flight {
    bytes: Vec<u8>,
    pub(super) transmits: Vec<Transmit>,
    addresses: Vec<SockAddr>,
    /// As many as transmits, or none.
    sources: Vec<Option<Source>>,
    pub(super) under_way: usize,
}

/// A sendmsg with a control message. The header's pointers are set once it lies where it stays.
struct Source {
    header: libc::msghdr,
    vector: libc::iovec,
    control: Control,
}

impl Flight {
    /// Takes over the outbox's arena, and gives it the one of the last time.
    ///
    /// `source` knows the control message for those that leave from an address of ours.
    pub(super) fn load(
        &mut self,
        outbox: &mut Outbox,
        source: impl Fn(&Transmit) -> Option<Control>,
    ) {
        outbox.swap_transmits(&mut self.bytes, &mut self.transmits);
        self.addresses.clear();
        let addresses = self.transmits.iter().map(|t| SockAddr::from(t.to));
        self.addresses.extend(addresses);
        self.sources.clear();
        let is_any = |t: &Transmit| t.local.address == LocalAddress::ANY;
        if self.transmits.iter().all(is_any) {
            return;
        }
        let sources = self.transmits.iter().map(|transmit| {
            // SAFETY: all-zero bytes are a valid msghdr and iovec: null pointers with zero lengths.
            let (header, vector) = unsafe { mem::zeroed() };
            source(transmit).map(|control| Source {
                header,
                vector,
                control,
            })
        });
        self.sources.extend(sources);
        let transmits = self.transmits.iter().zip(&self.addresses);
        for (source, (transmit, address)) in self.sources.iter_mut().zip(transmits) {
            let Some(Source {
                header,
                vector,
                control,
            }) = source
            else {
                continue;
            };
            let bytes = &self.bytes[transmit.range.clone()];
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            control.add_to(header);
        }
    }

    /// The send of one of its datagrams. The pointers are good until the next [`Self::load`].
    pub(super) fn entry(&self, index: usize, port: u8, flags: i32) -> squeue::Entry {
        if let Some(Some(source)) = self.sources.get(index) {
            #[expect(clippy::cast_sign_loss, reason = "a set of bits")]
            return opcode::SendMsg::new(Fixed(port.into()), &raw const source.header)
                .flags(flags as u32)
                .build();
        }
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

/// Who sent what is in a received buffer, and to which of our addresses; `None` when the sender's is none
/// of the internet's.
pub(super) fn sender(
    buffer: &[u8],
    known: Option<&LocalAddresses>,
) -> Option<(SocketAddr, LocalAddress)> {
    let from = address(buffer.get(OUT_HEADER..CONTROL)?)?;
    Some((from, local_address(buffer.get(..PAYLOAD)?, known)))
}

/// Where it came to, by all that is before the payload.
fn local_address(buffer: &[u8], known: Option<&LocalAddresses>) -> LocalAddress {
    let control = known.and_then(|known| {
        let length = u32::from_ne_bytes(buffer.get(4..8)?.try_into().ok()?);
        let end = CONTROL.checked_add(usize::try_from(length).ok()?)?;
        Some(known.number(buffer.get(CONTROL..end)?))
    });
    control.unwrap_or(LocalAddress::ANY)
}

/// Takes a received buffer apart; `None` when the address is none of the internet's.
pub(super) fn parse<'a>(
    buffer: &'a mut [u8],
    known: Option<&LocalAddresses>,
) -> Option<Datagram<'a>> {
    let (head, bytes) = buffer.split_at_mut_checked(PAYLOAD)?;
    let flags = u32::from_ne_bytes(head[12..16].try_into().ok()?);
    Some(Datagram {
        from: address(&head[OUT_HEADER..CONTROL])?,
        at: local_address(head, known),
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
