//! From which of the host's addresses a datagram leaves, where a socket is bound to all of them.
//!
//! By itself the kernel chooses the address by the route to the peer, which need not be the one that the
//! peer asked: on a host with several, the answer would be a stranger's. So such a socket tells where
//! each datagram came to (IP_PKTINFO, IPV6_RECVPKTINFO; RFC 3542 section 6), and is told where each is to leave
//! from:
//!
//! ```text
//! control message   | cmsghdr: length, level, type | in_pktinfo or in6_pktinfo | padding |
//!                   0                              16                                    ROOM
//! ```
//!
//! Telling it costs the kernel half a microsecond, so it is not done where the kernel has no choice: on
//! a host that has one address of the family ([`LocalAddresses::set_choice`]).

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use socket2::Socket;

use crate::endpoint::LocalAddress;

/// Room for a control message of either family.
pub(super) const CONTROL_ROOM: usize = HEADER + 24;
/// Bytes of a cmsghdr on the 64-bit machines that we run on.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Bytes of an in6_pktinfo: the address and the interface.
const INFO_V6: usize = size_of::<libc::in6_pktinfo>();
/// Bytes of an in_pktinfo: the interface, the address and the one in the datagram's header.
const INFO_V4: usize = size_of::<libc::in_pktinfo>();

/// The addresses that datagrams came to, which [`LocalAddress`] numbers from 1; shared by the sockets of a
/// group, so that a number means the same to all shards.
#[derive(Debug)]
pub(crate) struct LocalAddresses {
    known: [OnceLock<IpAddr>; u8::MAX as usize],
    /// Whether the host has more than one address that others can send to: of IPv4, of IPv6.
    has_choice: [AtomicBool; 2],
}

impl LocalAddresses {
    /// None known yet.
    pub(super) fn new() -> Self {
        Self {
            known: [const { OnceLock::new() }; u8::MAX as usize],
            has_choice: [const { AtomicBool::new(true) }; 2],
        }
    }

    /// From now on the host has these addresses, in any order; those of loopback and of a link alone do
    /// not matter. Before the first call it may have any.
    pub(crate) fn set_choice(&self, addresses: &[IpAddr]) {
        for (is_v6, has_choice) in [false, true].into_iter().zip(&self.has_choice) {
            let of_family = addresses.iter().filter(|ip| ip.is_ipv6() == is_v6);
            let mut others = of_family.filter(|ip| scope(**ip) == Scope::Global);
            let first = others.next();
            has_choice.store(others.any(|ip| Some(ip) != first), Relaxed);
        }
    }

    /// Has the kernel tell of each datagram of `socket` where it came to.
    ///
    /// # Errors
    /// What the kernel says of the option.
    pub(super) fn request(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
        let (level, name) = match is_ipv6 {
            true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        };
        let on: libc::c_int = 1;
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes")]
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes of a number that is as long.
        let result = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(socket.as_raw_fd(), level, name, value, length)
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The number of the address that the control messages of a received datagram name; of the host's
    /// first 255 each has one, and what nobody can send from has none.
    pub(super) fn number(&self, control: &[u8]) -> LocalAddress {
        let Some(address) = arrived_at(control) else {
            return LocalAddress::ANY;
        };
        for (number, known) in (1..=u8::MAX).zip(&self.known) {
            if *known.get_or_init(|| address) == address {
                return LocalAddress(number);
            }
        }
        LocalAddress::ANY
    }

    /// The control message by which a datagram to this address leaves from there; `None` for
    /// [`LocalAddress::ANY`], and where the kernel chooses that by itself.
    pub(super) fn source(&self, number: LocalAddress, to: IpAddr) -> Option<Control> {
        let index = usize::from(number.0).checked_sub(1)?;
        let asked = *self.known.get(index)?.get()?;
        let is_kernels_choice = self.is_kernels_choice(asked.to_canonical(), to.to_canonical());
        (!is_kernels_choice).then(|| Control::source(asked))
    }

    fn is_kernels_choice(&self, asked: IpAddr, to: IpAddr) -> bool {
        match (scope(asked), scope(to)) {
            // From one address of loopback to another, it is the first.
            (Scope::Loopback, Scope::Loopback) => {
                asked == Ipv4Addr::LOCALHOST || asked == Ipv6Addr::LOCALHOST
            }
            (asked_in, to_in) => {
                asked_in == to_in && !self.has_choice[usize::from(asked.is_ipv6())].load(Relaxed)
            }
        }
    }
}

/// How far an address reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Loopback,
    Link,
    Global,
}

fn scope(address: IpAddr) -> Scope {
    let is_link_local = match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match is_link_local {
        _ if address.is_loopback() => Scope::Loopback,
        true => Scope::Link,
        false => Scope::Global,
    }
}

/// Where a datagram came to, if its control messages say so.
fn arrived_at(control: &[u8]) -> Option<IpAddr> {
    let mut rest = control;
    loop {
        let length = usize::from_ne_bytes(rest.first_chunk().copied()?);
        let level = i32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(rest.get(12..HEADER)?.try_into().ok()?);
        let info = rest.get(HEADER..length)?;
        let address: IpAddr = match (level, kind) {
            // ipi_spec_dst: what the host itself is called there, also where the datagram was a broadcast.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                Ipv4Addr::from(*info.get(4..8)?.first_chunk::<4>()?).into()
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                Ipv6Addr::from(*info.first_chunk::<16>()?).into()
            }
            _ => {
                rest = rest.get(length.next_multiple_of(8).max(HEADER)..)?;
                continue;
            }
        };
        let canonical = address.to_canonical();
        return (!canonical.is_multicast() && !canonical.is_unspecified()).then_some(address);
    }
}

/// One control message, as the kernel wants it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; CONTROL_ROOM],
    length: usize,
}

impl Control {
    /// "Send from `address`." That of an IPv6 socket is one of IPv6, also where it is a mapped one.
    fn source(address: IpAddr) -> Self {
        let mut bytes = [0; CONTROL_ROOM];
        let (level, kind, info) = match address {
            IpAddr::V4(ip) => {
                bytes[HEADER + 4..HEADER + 8].copy_from_slice(&ip.octets());
                (libc::IPPROTO_IP, libc::IP_PKTINFO, INFO_V4)
            }
            IpAddr::V6(ip) => {
                bytes[HEADER..HEADER + 16].copy_from_slice(&ip.octets());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, INFO_V6)
            }
        };
        bytes[..8].copy_from_slice(&(HEADER + info).to_ne_bytes());
        bytes[8..12].copy_from_slice(&level.to_ne_bytes());
        bytes[12..HEADER].copy_from_slice(&kind.to_ne_bytes());
        Self {
            bytes,
            length: (HEADER + info).next_multiple_of(8),
        }
    }

    /// Adds the message to a header, which points to it from then on; the kernel only reads it.
    pub(super) const fn add_to(&self, header: &mut libc::msghdr) {
        header.msg_control = self.bytes.as_ptr().cast_mut().cast();
        header.msg_controllen = self.length as _;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

    #[test]
    fn an_address_has_one_number_and_is_told_as_it_came() {
        let addresses = LocalAddresses::new();
        let told: [IpAddr; 3] = [
            [192, 0, 2, 1].into(),
            "2001:db8::1".parse().unwrap(),
            "::ffff:192.0.2.1".parse().unwrap(),
        ];
        for (number, address) in (1..).zip(told).chain((1..).zip(told)) {
            let control = Control::source(address);
            let bytes = &control.bytes[..control.length];
            assert_eq!(arrived_at(bytes), Some(address));
            assert_eq!(addresses.number(bytes), LocalAddress(number));
            let source = addresses.source(LocalAddress(number), PEER).unwrap();
            assert_eq!(source.bytes, control.bytes);
            // Behind another message, it is found too.
            let mut other = [0; 24];
            other[..8].copy_from_slice(&20_usize.to_ne_bytes());
            let both = [&other[..], bytes].concat();
            assert_eq!(addresses.number(&both), LocalAddress(number));
        }
        assert!(addresses.source(LocalAddress::ANY, PEER).is_none());
        assert!(addresses.source(LocalAddress(4), PEER).is_none());
    }

    #[test]
    fn the_kernel_is_told_where_it_could_choose_another() {
        let addresses = LocalAddresses::new();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let is_told = |asked: &str, to: &str| {
            let control = Control::source(ip(asked));
            let number = addresses.number(&control.bytes[..control.length]);
            addresses.source(number, ip(to)).is_some()
        };
        for (one, many) in [
            (
                ["192.0.2.1", "2001:db8::1", "127.0.0.1", "fe80::1"],
                ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"],
            ),
            (
                ["192.0.2.1", "192.0.2.1", "169.254.0.1", "::1"],
                ["10.0.0.1", "192.0.2.1", "2001:db8::2", "fd00::1"],
            ),
        ] {
            for (host, told) in [(one, false), (many, true)] {
                addresses.set_choice(&host.map(ip));
                assert_eq!(is_told("192.0.2.1", "198.51.100.7"), told);
                assert_eq!(is_told("::ffff:192.0.2.1", "198.51.100.7"), told);
                assert_eq!(is_told("2001:db8::1", "2001:db8:7::7"), told);
                assert_eq!(is_told("fe80::1", "fe80::7"), told);
                // Whatever the host has.
                assert!(!is_told("127.0.0.1", "127.0.0.7"));
                assert!(!is_told("::ffff:127.0.0.1", "127.0.0.7"));
                assert!(!is_told("::1", "::1"));
                assert!(is_told("127.0.0.2", "127.0.0.1"));
                assert!(is_told("192.0.2.1", "127.0.0.1"));
                assert!(is_told("127.0.0.1", "192.0.2.1"));
                assert!(is_told("2001:db8::1", "fe80::7"));
                assert!(is_told("fe80::1", "2001:db8:7::7"));
            }
        }
        // One of each family is no choice; of one, it is for that one only.
        addresses.set_choice(&["192.0.2.1", "2001:db8::1", "2001:db8::2"].map(ip));
        assert!(!is_told("192.0.2.1", "198.51.100.7"));
        assert!(is_told("2001:db8::1", "2001:db8:7::7"));
    }

    #[test]
    fn what_nobody_can_send_from_and_what_is_too_many_is_the_kernels_choice() {
        let addresses = LocalAddresses::new();
        let number = |address: IpAddr| {
            let control = Control::source(address);
            addresses.number(&control.bytes[..control.length])
        };
        for address in [
            "0.0.0.0",
            "224.0.1.187",
            "ff02::fd",
            "::",
            "::ffff:224.0.1.187",
        ] {
            assert_eq!(number(address.parse().unwrap()), LocalAddress::ANY);
        }
        for host in 1..=255 {
            assert_eq!(number([10, 0, 0, host].into()), LocalAddress(host));
        }
        assert_eq!(number([10, 0, 1, 0].into()), LocalAddress::ANY);
        assert_eq!(number([10, 0, 0, 255].into()), LocalAddress(255));
        // Cut off anywhere, it says nothing, and is never read beyond its end.
        let control = Control::source([192, 0, 2, 1].into());
        for length in 0..HEADER + INFO_V4 {
            assert_eq!(arrived_at(&control.bytes[..length]), None);
        }
        let endless = [0; CONTROL_ROOM];
        assert_eq!(arrived_at(&endless), None);
    }
}
