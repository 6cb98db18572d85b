//! The server's end of a datagram.

/// Which of the server's sockets a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// CoAP without protection.
    Plain,
    /// CoAP over DTLS.
    Secure,
}

/// One of the addresses that a socket receives at, when it is bound to all of the host's: what the
/// driver that saw it calls it, in a byte, as each peer keeps one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocalAddress(pub(crate) u8);

impl LocalAddress {
    /// The one that the kernel chooses.
    pub const ANY: Self = Self(0);
}

/// The server's end: a peer that asked here is answered from here, and from no other address, as it
/// would not know the answer for one (and a NAT on the way would not let it through).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The socket.
    pub port: Port,
    /// Which of its addresses.
    pub address: LocalAddress,
}

impl From<Port> for Local {
    fn from(port: Port) -> Self {
        Self {
            port,
            address: LocalAddress::ANY,
        }
    }
}
