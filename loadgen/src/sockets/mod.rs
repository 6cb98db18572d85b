//! Sockets. A server knows a peer by its address, so each device has one of its own: on loopback an
//! address of 127.0.0.0/8 at a socket that many share ([`hub`]), elsewhere a port, with a connected
//! socket of its own.

mod batch;
mod hub;
mod way;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that the process needs beside the devices' sockets.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Devices per loopback address: the kernel's default range has 28 232 ports, and finding a free
/// one takes long when few are left.
const DEVICES_PER_ADDRESS: usize = 20_000;

pub(crate) use way::{Hubs, Way, Wire, send};

use hub::Hub;

/// Of an event: it is a hub's, and the rest of the number is the hub's index.
const HUB: u64 = 1 << 63;

/// Whether devices share sockets: all but those that need ports of their own.
pub(crate) fn are_shared(target: SocketAddr, wanted: bool) -> bool {
    wanted && matches!(target.ip(), IpAddr::V4(address) if address.is_loopback())
}

/// Descriptors for so many devices.
pub(crate) const fn descriptors(devices: usize, shared: bool) -> usize {
    match shared {
        true => devices.div_ceil(hub::DEVICES_MIN),
        false => devices,
    }
}

/// Raises the limit of open files to what the hard limit allows, or to more if this process may.
///
/// # Errors
///
/// When so many `sockets` do not fit, with the remedy.
pub(crate) fn raise_file_limit(sockets: usize) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let needed = sockets as u64 + DESCRIPTORS_RESERVED;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: Some(needed.max(hard)),
        maximum: Some(needed.max(hard)),
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return Err(format!(
            "this run needs {needed} open files ({sockets} sockets, {DESCRIPTORS_RESERVED} for all else), and \
             the limit is {hard}: raise it in the shell that starts it with `ulimit -n {needed}` (as root where \
             that is refused; LimitNOFILE={needed} in a systemd unit, --ulimit nofile={needed} of a container), \
             or use fewer --devices"
        ));
    }
    Ok(())
}

/// The socket of device number `index`, bound, connected and not blocking.
///
/// A loopback target of IPv4 is approached from several addresses of 127.0.0.0/8 when the ports of
/// one are not enough.
///
/// # Errors
///
/// When the kernel refuses; [`explain`] knows the remedies.
pub(crate) fn open(target: SocketAddr, index: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(source(target.ip(), index), 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What an event of a thread's epoll is about.
pub(crate) enum Ready {
    /// The socket of the device with this index.
    Device(usize),
    /// The hub with this index.
    Hub(usize),
}

impl Ready {
    /// Reads an event.
    pub(crate) fn of(event: epoll::Event) -> Self {
        let data = event.data.u64();
        let index = |data| usize::try_from(data).unwrap_or(usize::MAX);
        match data & HUB {
            0 => Self::Device(index(data)),
            _ => Self::Hub(index(data & !HUB)),
        }
    }
}

/// Opens the sockets of one thread's devices, and has them watched.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) epoll: OwnedFd,
    target: SocketAddr,
    shared: bool,
    /// The fleet's number of the thread's first device.
    first_device: usize,
    /// The thread's index of each hub's first device, and of the one behind its last.
    hubs: Vec<std::ops::Range<usize>>,
}

impl Sockets {
    /// Sockets to `target`, shared by devices or not.
    ///
    /// # Errors
    ///
    /// When the kernel has no epoll for it.
    pub(crate) fn new(
        target: SocketAddr,
        first_device: usize,
        shared: bool,
    ) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| format!("epoll cannot be set up: {error}"))?;
        Ok(Self {
            epoll,
            target,
            shared,
            first_device,
            hubs: Vec::new(),
        })
    }

    /// The way of the thread's device number `index`; of each in their order. A hub is opened where
    /// the last one has no room.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, with the remedy.
    pub(crate) fn open_way(&mut self, index: usize, hubs: &mut Hubs) -> Result<Way, String> {
        let SocketAddr::V4(target) = self.target else {
            return self.open(index).map(Way::Own);
        };
        if !self.shared {
            return self.open(index).map(Way::Own);
        }
        let number = self.first_device + index;
        if self.hubs.last().is_none_or(|last| !last.contains(&index)) {
            let (hub, room) = Hub::open(target, number).map_err(|error| explain(&error, number))?;
            let data = epoll::EventData::new_u64(HUB | self.hubs.len() as u64);
            self.watch(hub.socket(), data)?;
            self.hubs.push(index..index + room);
            hubs.hubs.push(hub);
        }
        Ok(Way::Shared {
            hub: self.hubs.len() - 1,
            source: hub::address_of(number),
        })
    }

    /// The thread's index of a hub's device.
    pub(crate) fn device_of(&self, hub: usize, offset: usize) -> Option<usize> {
        let range = self.hubs.get(hub)?;
        Some(range.start + offset).filter(|index| range.contains(index))
    }

    /// A socket of the thread's device number `index`, watched under that number; from a port that
    /// no open socket has. An older one of the device is forgotten once it is closed.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, with the remedy.
    pub(crate) fn open(&self, index: usize) -> Result<UdpSocket, String> {
        let number = self.first_device + index;
        let socket = open(self.target, number).map_err(|error| explain(&error, number))?;
        self.watch(&socket, epoll::EventData::new_u64(index as u64))?;
        Ok(socket)
    }

    fn watch(&self, socket: &UdpSocket, data: epoll::EventData) -> Result<(), String> {
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)
            .map_err(|error| format!("epoll cannot watch a socket: {error}"))
    }
}

/// The socket of a stranger, who is no device: on a loopback target of IPv4 each has an address of
/// its own, so that a server cannot take them for one.
///
/// # Errors
///
/// As [`open`].
pub(crate) fn open_stranger(target: SocketAddr, index: usize) -> io::Result<UdpSocket> {
    let source = match target.ip() {
        IpAddr::V4(address) if address.is_loopback() => {
            let host = u32::try_from(index).unwrap_or(u32::MAX) % 0x003f_0000;
            // From 127.64.0.1 on.
            IpAddr::V4(Ipv4Addr::from_bits(0x7f40_0001 + host))
        }
        other => source(other, 0),
    };
    let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn source(target: IpAddr, index: usize) -> IpAddr {
    match target {
        IpAddr::V4(address) if address.is_loopback() => {
            let group =
                u32::try_from(index / DEVICES_PER_ADDRESS).unwrap_or(u32::MAX) % 0x00fe_0000;
            if group == 0 {
                return IpAddr::V4(Ipv4Addr::LOCALHOST);
            }
            // From 127.1.0.1 on.
            IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0000 + group))
        }
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// What to do about an error of [`open`].
pub(crate) fn explain(error: &io::Error, opened: usize) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "all ports are in use: use fewer --devices, widen net.ipv4.ip_local_port_range, or run \
             generators from several addresses"
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "there is no route to the target: check --target"
        }
        _ if error.raw_os_error() == Some(24) => {
            "it would be one open file too many for this process: raise the limit in the shell that starts it \
             (`ulimit -n`), or use fewer --devices"
        }
        _ if error.raw_os_error() == Some(23) => {
            "all processes of the host together have too many open files: raise `sysctl fs.file-max`, or use \
             fewer --devices"
        }
        _ => "check --target and the host's limits",
    };
    format!(
        "the socket of device {} cannot be opened: {error}; {remedy}",
        opened + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_target_has_as_many_sources_as_devices_need() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(loopback, 0), loopback);
        assert_eq!(source(loopback, 19_999), loopback);
        assert_eq!(source(loopback, 20_000).to_string(), "127.1.0.1");
        let mut sources: Vec<_> = (0..50).map(|n| source(loopback, n * 20_000)).collect();
        sources.dedup();
        assert_eq!(sources.len(), 50);
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(source(far, 1_000_000).to_string(), "0.0.0.0");
    }

    #[test]
    fn devices_fill_hubs_in_their_order_or_have_sockets() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let mut hubs = Hubs::new();
        let mut sockets = Sockets::new(target, 500, are_shared(target, true)).unwrap();
        for index in 0..40 {
            let way = sockets.open_way(index, &mut hubs).unwrap();
            let expected = hub::address_of(500 + index);
            assert!(
                matches!(way, Way::Shared { hub: 0, source } if source == expected),
                "{way:?}"
            );
        }
        assert_eq!(sockets.device_of(0, 7), Some(7));
        assert_eq!(sockets.device_of(1, 0), None);
        assert_eq!(sockets.device_of(0, usize::MAX / 2), None);
        let mut own = Sockets::new(target, 0, are_shared(target, false)).unwrap();
        assert!(matches!(own.open_way(0, &mut hubs).unwrap(), Way::Own(_)));
        assert!(!are_shared("192.0.2.1:5684".parse().unwrap(), true));
        assert!(!are_shared("[::1]:5684".parse().unwrap(), true));
    }

    #[test]
    fn a_socket_talks_to_its_target_only() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = open(server.local_addr().unwrap(), 20_000).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip().to_string(), "127.1.0.1");
        socket.send(b"x").unwrap();
        let mut buffer = [0; 8];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from), (1, socket.local_addr().unwrap()));
    }

    #[test]
    fn strangers_have_addresses_of_their_own() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let addresses: std::collections::BTreeSet<_> = (0..300)
            .map(|index| open_stranger(target, index).unwrap().local_addr().unwrap())
            .map(|address| address.ip())
            .collect();
        assert_eq!(addresses.len(), 300);
        assert!(!addresses.contains(&source(target.ip(), 0)));
    }

    #[test]
    fn the_file_limit_is_raised_or_the_remedy_said() {
        raise_file_limit(10).unwrap();
        // More than any kernel has.
        let error = raise_file_limit(usize::MAX / 2).unwrap_err();
        let needed = (usize::MAX / 2) as u64 + DESCRIPTORS_RESERVED;
        for part in ["ulimit -n ", "LimitNOFILE=", "needs "] {
            assert!(error.contains(&format!("{part}{needed}")), "{error}");
        }
    }
}
