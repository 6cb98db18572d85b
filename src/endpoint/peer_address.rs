//! A peer's address in the forms by which it is known: one for each peer, and as bytes for its cookie.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

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
