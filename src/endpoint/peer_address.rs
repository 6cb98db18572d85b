//! A peer's address in the forms by which it is known: one for each peer, and as bytes for its cookie.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Local;

/// An IPv4 peer on a dual-stack socket and on an IPv4 socket is the same peer.
///
/// An IPv6 peer keeps its scope: a link-local address says nothing without its interface.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(ip) => {
            let scope_id = match address {
                SocketAddr::V6(address) => address.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            SocketAddrV6::new(ip, address.port(), 0, scope_id).into()
        }
    }
}

/// A canonical address and its port in 22 bytes, as a peer keeps it; a `SocketAddr` takes 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedAddress {
    ip: [u8; 16],
    scope_id: [u8; 4],
    port: [u8; 2],
}

impl PackedAddress {
    /// All of it in one piece, with the server's end in the last two bytes: hashing that takes half the
    /// time of hashing the parts.
    pub(super) fn to_bytes(self, local: Local) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.ip);
        bytes[16..20].copy_from_slice(&self.scope_id);
        bytes[20..22].copy_from_slice(&self.port);
        bytes[22] = local.address.0;
        bytes[23] = local.port as u8;
        bytes
    }
}

impl From<SocketAddr> for PackedAddress {
    fn from(address: SocketAddr) -> Self {
        let (ip, scope_id) = match address {
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        Self {
            ip: ip.octets(),
            scope_id: scope_id.to_ne_bytes(),
            port: address.port().to_ne_bytes(),
        }
    }
}

impl From<PackedAddress> for SocketAddr {
    fn from(packed: PackedAddress) -> Self {
        let PackedAddress { ip, scope_id, port } = packed;
        let port = u16::from_ne_bytes(port);
        // A canonical address is never a mapped one, so what looks like one is an IPv4 address.
        match Ipv6Addr::from(ip).to_ipv4_mapped() {
            Some(ip) => Self::from((ip, port)),
            None => SocketAddrV6::new(ip.into(), port, 0, u32::from_ne_bytes(scope_id)).into(),
        }
    }
}

/// A peer's address as the bytes that its cookie is bound to.
pub(super) struct AddressBytes {
    bytes: [u8; 18],
    length: usize,
}

impl AddressBytes {
    pub(super) fn new(address: SocketAddr) -> Self {
        let mut bytes = [0; 18];
        bytes[..2].copy_from_slice(&address.port().to_be_bytes());
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                bytes[2..6].copy_from_slice(&ip.octets());
                6
            }
            IpAddr::V6(ip) => {
                bytes[2..].copy_from_slice(&ip.octets());
                18
            }
        };
        Self { bytes, length }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LocalAddress, Port};
    use super::*;

    #[test]
    fn a_canonical_address_comes_back_as_it_was() {
        for address in [
            "192.0.2.7:5684",
            "0.0.0.0:0",
            "[2001:db8::1]:65535",
            "[fe80::1%7]:5684",
            "[::]:1",
            "[::ffff:192.0.2.7]:5684",
        ] {
            let address = canonical(address.parse().unwrap());
            assert_eq!(SocketAddr::from(PackedAddress::from(address)), address);
        }
    }

    #[test]
    fn other_addresses_are_other_bytes() {
        let mut seen = std::collections::HashSet::new();
        for address in [
            "192.0.2.7:5684",
            "192.0.2.7:5685",
            "192.0.3.7:5684",
            "[fe80::1%7]:5684",
            "[fe80::1%8]:5684",
            "[fe80::2%7]:5684",
        ] {
            let packed = PackedAddress::from(address.parse::<SocketAddr>().unwrap());
            for port in [Port::Plain, Port::Secure] {
                for address in [LocalAddress::ANY, LocalAddress(1), LocalAddress(u8::MAX)] {
                    assert!(seen.insert(packed.to_bytes(Local { port, address })));
                }
            }
        }
        assert_eq!(size_of::<PackedAddress>(), 22);
    }
}
