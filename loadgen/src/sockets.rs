//! Sockets: one per device, connected, because a server knows a peer by its address.

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

/// Raises the limit of open files to what the hard limit allows.
///
/// # Errors
///
/// When `devices` do not fit, with the remedy.
pub(crate) fn raise_file_limit(devices: usize) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let needed = devices as u64 + DESCRIPTORS_RESERVED;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if setrlimit(Resource::Nofile, raised).is_err() || hard < needed {
        return Err(format!(
            "{devices} devices need {needed} open files, and the hard limit is {hard}: use fewer \
             --devices, or raise it (`ulimit -Hn {needed}` as root, or LimitNOFILE={needed} in a unit)"
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

/// Opens the sockets of one thread's devices, and has them watched.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) epoll: OwnedFd,
    target: SocketAddr,
    /// The fleet's number of the thread's first device.
    first_device: usize,
}

impl Sockets {
    /// Sockets to `target`.
    ///
    /// # Errors
    ///
    /// When the kernel has no epoll for it.
    pub(crate) fn new(target: SocketAddr, first_device: usize) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| format!("epoll cannot be set up: {error}"))?;
        Ok(Self {
            epoll,
            target,
            first_device,
        })
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
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)
            .map_err(|error| format!("epoll cannot watch a socket: {error}"))?;
        Ok(socket)
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
        _ if error.raw_os_error() == Some(24) || error.raw_os_error() == Some(23) => {
            "too many open files: use fewer --devices, or raise the limits (ulimit -n, fs.file-max)"
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
        if let Some(hard) = getrlimit(Resource::Nofile).maximum {
            let devices = usize::try_from(hard).unwrap();
            assert!(
                raise_file_limit(devices)
                    .unwrap_err()
                    .contains("LimitNOFILE")
            );
        }
    }
}
