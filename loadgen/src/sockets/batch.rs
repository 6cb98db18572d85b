//! Many datagrams by one system call, each from or to an address of its own (recvmmsg, sendmmsg,
//! IP_PKTINFO).

#![allow(unsafe_code, reason = "these system calls have no safe wrapper")]

use std::io;
use std::mem::{self, size_of};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Datagrams of one call.
pub(super) const BATCH: usize = 64;
/// Longest datagram that is taken whole: CoAP messages and flights of a handshake are shorter.
const DATAGRAM_MAX: usize = 9216;

/// The control message that names the local address: where a datagram goes out, or came in.
#[repr(C)]
#[derive(Clone, Copy)]
struct LocalAddress {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
    /// Up to the alignment of a control message.
    padding: u32,
}

/// CMSG_LEN of it: the header and the data, without the padding.
const LOCAL_ADDRESS_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>();
const _: () = assert!(size_of::<LocalAddress>() == 32 && LOCAL_ADDRESS_LEN == 28);

/// Memory that the kernel is pointed to by each call; the pointers are set anew for each.
pub(super) struct Batch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    addresses: Vec<LocalAddress>,
    buffers: Vec<[u8; DATAGRAM_MAX]>,
    received: usize,
}

// SAFETY: the pointers in `headers` and `vectors` are used within one call only, which sets them
// first, to memory that this value owns or borrows for that call.
unsafe impl Send for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero bytes are valid values of these: numbers and null pointers.
        let (header, vector, address) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Self {
            headers: vec![header; BATCH],
            vectors: vec![vector; BATCH],
            addresses: vec![address; BATCH],
            buffers: vec![[0; DATAGRAM_MAX]; BATCH],
            received: 0,
        }
    }

    /// Sends datagrams of `bytes`, at most [`BATCH`], each from its own address; returns how many the
    /// kernel took. An error concerns the first one.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        target: SocketAddrV4,
        bytes: &[u8],
        datagrams: &[(Ipv4Addr, Range<usize>)],
    ) -> io::Result<usize> {
        let mut target = libc::sockaddr_in {
            sin_family: INTERNET,
            sin_port: target.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: target.ip().to_bits().to_be(),
            },
            sin_zero: [0; 8],
        };
        let mut count = 0;
        for (source, range) in datagrams.iter().take(BATCH) {
            let datagram = bytes.get(range.clone()).unwrap_or_default();
            let address = &mut self.addresses[count];
            address.header.cmsg_len = LOCAL_ADDRESS_LEN as _;
            address.header.cmsg_level = libc::IPPROTO_IP;
            address.header.cmsg_type = libc::IP_PKTINFO;
            address.info.ipi_ifindex = 0;
            address.info.ipi_addr.s_addr = 0;
            address.info.ipi_spec_dst.s_addr = source.to_bits().to_be();
            let vector = &mut self.vectors[count];
            vector.iov_base = datagram.as_ptr().cast_mut().cast();
            vector.iov_len = datagram.len();
            let header = &mut self.headers[count].msg_hdr;
            header.msg_name = (&raw mut target).cast();
            header.msg_namelen = ADDRESS_LENGTH;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut *address).cast();
            header.msg_controllen = size_of::<LocalAddress>() as _;
            header.msg_flags = 0;
            count += 1;
        }
        let length = libc::c_uint::try_from(count).unwrap_or(0);
        // SAFETY: the first `count` headers were pointed to the target of this frame, to vectors and
        // control messages of `self`, and through these to `bytes`, all alive and with their true
        // lengths; the kernel only reads (the casts to mutable are the C signature's).
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                length,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Takes datagrams that are there, at most [`BATCH`]; returns how many.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        for index in 0..BATCH {
            let vector = &mut self.vectors[index];
            vector.iov_base = self.buffers[index].as_mut_ptr().cast();
            vector.iov_len = DATAGRAM_MAX;
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = std::ptr::null_mut();
            header.msg_namelen = 0;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.addresses[index]).cast();
            header.msg_controllen = size_of::<LocalAddress>() as _;
            header.msg_flags = 0;
        }
        // SAFETY: every header was pointed to a buffer, a vector and a control message of `self`,
        // which live on the heap and are not touched meanwhile, with their true lengths.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH_COUNT,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// Datagram number `index` of the last receive call, with the local address that it came to;
    /// `None` when it was cut or says no address.
    pub(super) fn datagram(&mut self, index: usize) -> Option<(Ipv4Addr, &mut [u8])> {
        if index >= self.received {
            return None;
        }
        let header = self.headers.get(index)?;
        let address = self.addresses.get(index)?;
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
            || header.msg_hdr.msg_controllen < LOCAL_ADDRESS_LEN as _
            || address.header.cmsg_level != libc::IPPROTO_IP
            || address.header.cmsg_type != libc::IP_PKTINFO
        {
            return None;
        }
        let local = Ipv4Addr::from_bits(u32::from_be(address.info.ipi_addr.s_addr));
        let buffer = self.buffers.get_mut(index)?;
        let length = DATAGRAM_MAX.min(header.msg_len as usize);
        buffer.get_mut(..length).map(|bytes| (local, bytes))
    }
}

/// Has the kernel say where datagrams came to, and keep the errors that come back for
/// [`take_errors`].
pub(super) fn set_up(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
}

/// Asks for a receive buffer of `bytes`, more than the host grants to anybody if this process may;
/// returns what the kernel counts against, which is twice as much as it calls it.
pub(super) fn grow_receive_buffer(socket: &UdpSocket, bytes: i32) -> io::Result<usize> {
    if set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    let mut granted: libc::c_int = 0;
    let mut length = INT_LENGTH;
    // SAFETY: the option is an int, whose place and length are given.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw mut granted).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(usize::try_from(granted).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Empties the queue of errors that came back for sent datagrams (ICMP); returns how many.
pub(super) fn take_errors(socket: &UdpSocket) -> u64 {
    let mut count = 0;
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte of this frame; the rest of the datagram and its description are cut off.
        let taken = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                (&raw mut byte).cast(),
                1,
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
            )
        };
        if taken < 0 {
            return count;
        }
        count += 1;
    }
}

fn set(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option takes an int, whose place and length are given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            INT_LENGTH,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Small numbers in the types of the system calls.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
const INTERNET: libc::sa_family_t = libc::AF_INET as _;
#[allow(clippy::cast_possible_truncation)]
const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_in>() as _;
#[allow(clippy::cast_possible_truncation)]
const INT_LENGTH: libc::socklen_t = size_of::<libc::c_int>() as _;
#[allow(clippy::cast_possible_truncation)]
const BATCH_COUNT: libc::c_uint = BATCH as _;
