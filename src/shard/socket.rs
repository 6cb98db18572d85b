//! UDP sockets of a reuseport group, read and written in batches (recvmmsg, sendmmsg), and the
//! descriptors that a shard sleeps on.
//!
//! All shards bind the same address with SO_REUSEPORT and the kernel spreads the peers over them by
//! the hash of their 4-tuple. The sockets stay in blocking mode, since a ring of the executor waits
//! on them; every call here passes MSG_DONTWAIT and so never waits itself.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket as Socket2, Type};

use super::local_addresses::{CONTROL_ROOM, Control, LocalAddresses};
use crate::endpoint::LocalAddress;

/// Datagrams taken by one receive call, or given by one send call, at most.
pub const BATCH: usize = 64;
/// Bytes of a datagram that are kept; what is longer is dropped and counted. CoAP messages end at
/// 1152 bytes (RFC 7252 section 4.6), handshake datagrams at the path's MTU.
pub const DATAGRAM_MAX: usize = 4096;
/// Bytes that the kernel is asked to hold for a socket between two receive calls.
const KERNEL_BUFFER_BYTES: usize = 4 << 20;

/// Numbers that SO_MEMINFO tells, and which of them is that of dropped datagrams (SK_MEMINFO_DROPS).
const MEMINFO_VALUES: usize = 9;
const MEMINFO_DROPS: usize = 8;
#[expect(clippy::cast_possible_truncation, reason = "36 bytes")]
const MEMINFO_LENGTH: libc::socklen_t = size_of::<[u32; MEMINFO_VALUES]>() as libc::socklen_t;

/// One member of a reuseport group.
#[derive(Debug)]
pub struct Socket {
    socket: Socket2,
    /// Those at which datagrams came, when the group is bound to all of the host's.
    local_addresses: Option<Arc<LocalAddresses>>,
}

impl Socket {
    /// Binds `count` sockets to `address`, all or none; port 0 takes one free port for all.
    ///
    /// Fails with `AddrInUse` when anybody else has the port, even with SO_REUSEPORT: two servers on
    /// a port would share its devices without notice.
    ///
    /// # Errors
    /// What the kernel says of the address.
    pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let probe = Self::open(address, false)?;
        let bound = probe.local_addr()?;
        drop(probe);
        let is_any = bound.ip().is_unspecified();
        let local_addresses = is_any.then(|| Arc::new(LocalAddresses::new()));
        let member = |_| {
            let mut member = Self::open(bound, true)?;
            if is_any {
                LocalAddresses::request(&member.socket, bound.is_ipv6())?;
                member.local_addresses.clone_from(&local_addresses);
            }
            Ok(member)
        };
        (0..count).map(member).collect()
    }

    fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let socket = Socket2::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_port(reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // Less than asked for is no reason not to serve: the kernel caps it at net.core.rmem_max.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER_BYTES);
        socket.bind(&SockAddr::from(address))?;
        Ok(Self {
            socket,
            local_addresses: None,
        })
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// When the socket is not of the internet's families.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// A second descriptor of the same socket.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            local_addresses: self.local_addresses.clone(),
        })
    }

    /// Where datagrams came to, when the socket is bound to all of the host's addresses.
    pub(crate) const fn local_addresses(&self) -> Option<&Arc<LocalAddresses>> {
        self.local_addresses.as_ref()
    }

    /// Datagrams that the kernel dropped since the socket was made, modulo 2^32, mostly as its buffer was
    /// full.
    ///
    /// # Errors
    /// When the kernel does not say (SO_MEMINFO is there since Linux 4.12).
    pub fn drops(&self) -> io::Result<u32> {
        let mut values = [0_u32; MEMINFO_VALUES];
        let mut length = MEMINFO_LENGTH;
        // SAFETY: the kernel writes at most `length` bytes to `values`, which is as long.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        match result {
            0 => Ok(values[MEMINFO_DROPS]),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the datagrams that are there, at most [`BATCH`], and returns how many.
    ///
    /// # Errors
    /// What the kernel says of the socket; no datagram there is none.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.count = 0;
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: batch.buffers[index].as_mut_ptr().cast(),
            iov_len: DATAGRAM_MAX,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|index| {
            let mut header = empty_header();
            header.msg_hdr.msg_name = (&raw mut batch.addresses[index]).cast();
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
            header.msg_hdr.msg_iov = &raw mut vectors[index];
            header.msg_hdr.msg_iovlen = 1;
            if self.local_addresses.is_some() {
                header.msg_hdr.msg_control = batch.controls[index].0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = CONTROL_ROOM;
            }
            header
        });
        // SAFETY: every header points to a live buffer, address, vector and room for control messages of
        // this frame or of `batch`, with their true lengths; the kernel writes within them and keeps no
        // pointer.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH_COUNT,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (index, header) in headers.iter().take(received).enumerate() {
            batch.lengths[index] = header.msg_len as usize;
            batch.truncated[index] = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            batch.local_addresses[index] = match &self.local_addresses {
                Some(known) => {
                    let length = header.msg_hdr.msg_controllen.min(CONTROL_ROOM);
                    known.number(&batch.controls[index].0[..length])
                }
                None => LocalAddress::ANY,
            };
        }
        batch.count = received;
        Ok(received)
    }

    /// Hands datagrams to the kernel, at most [`BATCH`], each for an address and from one of ours; returns
    /// how many it took.
    ///
    /// `Ok(0)` means that the socket's buffer is full.
    ///
    /// # Errors
    /// An error concerns the first datagram alone.
    pub fn send<'a>(
        &self,
        datagrams: impl Iterator<Item = (SocketAddr, LocalAddress, &'a [u8])>,
    ) -> io::Result<usize> {
        let mut addresses: [MaybeUninit<SockAddr>; BATCH] =
            [const { MaybeUninit::uninit() }; BATCH];
        let mut vectors = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        let mut headers = [empty_header(); BATCH];
        let mut controls: [MaybeUninit<Control>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        let mut count = 0;
        for (index, (to, from, bytes)) in datagrams.take(BATCH).enumerate() {
            let address = addresses[index].write(SockAddr::from(to));
            vectors[index].iov_base = bytes.as_ptr().cast_mut().cast();
            vectors[index].iov_len = bytes.len();
            let header = &mut headers[index].msg_hdr;
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            let known = self.local_addresses.as_ref();
            if let Some(source) = known.and_then(|known| known.source(from, to.ip())) {
                controls[index].write(source).add_to(header);
            }
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers point to live addresses, vectors, bytes and control messages
        // with their true lengths; the kernel only reads them (the casts to mutable are the C signature's).
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).or_else(|_| {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            }
        })
    }
}

impl From<std::net::UdpSocket> for Socket {
    fn from(socket: std::net::UdpSocket) -> Self {
        Self {
            socket: socket.into(),
            local_addresses: None,
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<Socket> for std::os::fd::OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.socket.into()
    }
}

/// A descriptor with a counter: a write adds to it, a read takes it all, and waits for it to be more
/// than zero.
pub(super) fn event_descriptor() -> io::Result<File> {
    // SAFETY: a system call without pointers.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// A second descriptor of a socket, to wait on in the executor that runs here.
pub(super) fn in_executor(socket: &Socket) -> io::Result<glommio::net::UdpSocket> {
    let descriptor = OwnedFd::from(socket.try_clone()?).into_raw_fd();
    // SAFETY: the descriptor is a UDP socket, open, and given up by its owner here.
    Ok(unsafe { glommio::net::UdpSocket::from_raw_fd(descriptor) })
}

/// A second descriptor of an event, to read in the executor that runs here.
pub(super) fn event_in_executor(event: &File) -> io::Result<glommio::io::BufferedFile> {
    let descriptor = event.try_clone()?.into_raw_fd();
    // SAFETY: the descriptor is open, and given up by its owner here.
    Ok(unsafe { glommio::io::BufferedFile::from_raw_fd(descriptor) })
}

/// Sleeps until one of the descriptors can be read or has an error, at most `time`.
///
/// # Errors
/// When the kernel has no memory for it.
pub(super) fn wait_readable(descriptors: &mut [libc::pollfd], time: Duration) -> io::Result<()> {
    let timeout = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: `count` live entries, a live time, and no signal mask; the kernel keeps no pointer.
    let ready = unsafe {
        libc::ppoll(
            descriptors.as_mut_ptr(),
            count,
            &raw const timeout,
            std::ptr::null(),
        )
    };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// Lengths in the types of the system calls; both are small.
#[allow(clippy::cast_possible_truncation)]
const ADDRESS_LENGTH: libc::socklen_t = mem::size_of::<libc::sockaddr_storage>() as _;
#[allow(clippy::cast_possible_truncation)]
const BATCH_COUNT: u32 = BATCH as u32;

fn empty_header() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr: null pointers with zero lengths.
    unsafe { mem::zeroed() }
}

/// Datagrams of one receive call, in memory that is used again and again.
pub struct ReceiveBatch {
    buffers: Box<[[u8; DATAGRAM_MAX]]>,
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    controls: Box<[ControlRoom; BATCH]>,
    local_addresses: [LocalAddress; BATCH],
    lengths: [usize; BATCH],
    truncated: [bool; BATCH],
    count: usize,
}

/// Where the kernel writes control messages: aligned as their headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlRoom([u8; CONTROL_ROOM]);

/// One datagram as it came.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it came to.
    pub at: LocalAddress,
    /// Its bytes.
    pub bytes: &'a mut [u8],
    /// Whether it was longer than [`DATAGRAM_MAX`] and lost its end.
    pub truncated: bool,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            buffers: vec![[0; DATAGRAM_MAX]; BATCH].into_boxed_slice(),
            // SAFETY: all-zero bytes are a valid sockaddr_storage of family AF_UNSPEC.
            addresses: Box::new(unsafe { mem::zeroed() }),
            controls: Box::new([ControlRoom([0; CONTROL_ROOM]); BATCH]),
            local_addresses: [LocalAddress::ANY; BATCH],
            lengths: [0; BATCH],
            truncated: [false; BATCH],
            count: 0,
        }
    }
}

impl ReceiveBatch {
    /// Who sent these datagrams of the last receive call, and to which of our addresses, as
    /// [`Self::datagrams`] gives them.
    pub fn senders(&self, range: Range<usize>) -> impl Iterator<Item = (SocketAddr, LocalAddress)> {
        let range = range.start..range.end.min(self.count);
        let addresses = self.addresses.get(range.clone()).unwrap_or_default();
        let local = self.local_addresses.get(range).unwrap_or_default();
        let both = addresses.iter().zip(local);
        both.filter_map(|(address, at)| Some((socket_address(address)?, *at)))
    }

    /// These datagrams of the last receive call; those of an unknown address family are left out.
    pub fn datagrams(&mut self, range: Range<usize>) -> impl Iterator<Item = Datagram<'_>> {
        let count = range.end.min(self.count);
        self.buffers
            .iter_mut()
            .zip(self.addresses.iter().zip(&self.local_addresses))
            .zip(self.lengths.iter().zip(&self.truncated))
            .take(count)
            .skip(range.start)
            .filter_map(|((buffer, (address, &at)), (&length, &truncated))| {
                Some(Datagram {
                    from: socket_address(address)?,
                    at,
                    bytes: &mut buffer[..length.min(DATAGRAM_MAX)],
                    truncated,
                })
            })
    }
}

fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in; storage is larger and aligned for it.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote a sockaddr_in6; storage is larger and aligned for it.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_a_port_and_batches_carry_addresses_and_bytes() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let group = Socket::bind_group(host.parse().unwrap(), 2).unwrap();
            let address = group[0].local_addr().unwrap();
            assert_eq!(address, group[1].local_addr().unwrap());
            let clients: Vec<_> = (0..40)
                .map(|_| Socket::open(host.parse().unwrap(), false).unwrap())
                .collect();
            for client in &clients {
                let any = LocalAddress::ANY;
                let pair = [
                    (address, any, &b"ping"[..]),
                    (address, any, &[7; DATAGRAM_MAX + 1]),
                ];
                assert_eq!(client.send(pair.into_iter()).unwrap(), 2);
            }
            let mut batch = ReceiveBatch::default();
            let mut seen = 0;
            for member in &group {
                while member.receive(&mut batch).unwrap() > 0 {
                    for datagram in batch.datagrams(0..BATCH) {
                        let whole = datagram.bytes == b"ping";
                        assert_eq!(whole, !datagram.truncated);
                        assert!(
                            clients
                                .iter()
                                .any(|c| c.local_addr().unwrap() == datagram.from)
                        );
                        seen += 1;
                    }
                }
            }
            assert_eq!(seen, 80);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_when_its_owner_would_share_it() {
        let first = Socket::bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let again = Socket::bind_group(first[0].local_addr().unwrap(), 1);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
