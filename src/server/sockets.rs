//! The CoAP ports: bound for all shards before anything is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Addresses, StartError};
use crate::config::Config;
use crate::endpoint::Port;
use crate::shard::local_addresses::LocalAddresses;
use crate::shard::socket::Socket;
use crate::shard::steering;

/// How long a start waits for a port that somebody has.
const PORT_WAIT: Duration = Duration::from_secs(3);
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// Every shard's members of the reuseport groups, in the order of the shards.
pub(super) struct Sockets {
    pub(super) of_shards: Vec<Vec<(Port, Socket)>>,
    /// The admin interface is not among them yet.
    pub(super) addresses: Addresses,
    /// Of the ports that are bound to all of the host's addresses.
    pub(super) local_addresses: Vec<Arc<LocalAddresses>>,
    /// Whether connection ids name their shard; of no bytes they cannot.
    pub(super) connection_ids: bool,
}

impl Sockets {
    /// Binds what the settings ask for, and has the kernel deliver by connection id where it can.
    ///
    /// # Errors
    /// The setting whose port cannot be had, and the remedy.
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let shards = usize::from(config.tidegate.shards);
        let mut sockets = Self {
            of_shards: (0..shards).map(|_| Vec::new()).collect(),
            addresses: Addresses::default(),
            local_addresses: Vec::new(),
            connection_ids: config
                .dtls
                .connection_id_length
                .is_some_and(|length| length > 0),
        };
        if config.coap.enabled {
            let setting = "COAP_BIND_ADDRESS and COAP_BIND_PORT";
            let bound = sockets.bind(config.coap.bind, setting, Port::Plain)?;
            sockets.addresses.plain = Some(bound);
        }
        if config.dtls.enabled {
            let setting = "COAP_DTLS_BIND_ADDRESS and COAP_DTLS_BIND_PORT";
            let bound = sockets.bind(config.dtls.bind, setting, Port::Secure)?;
            sockets.addresses.secure = Some(bound);
            if sockets.connection_ids {
                steer(&sockets.of_shards);
            }
        }
        Ok(sockets)
    }

    /// Binds a port for all shards and hands each its member of the group.
    fn bind(
        &mut self,
        address: SocketAddr,
        setting: &'static str,
        port: Port,
    ) -> Result<SocketAddr, StartError> {
        let refused = |source| StartError::Bind {
            setting,
            address,
            source,
        };
        let group = bind_patiently(address, self.of_shards.len()).map_err(refused)?;
        let bound = group
            .first()
            .map_or(Ok(address), Socket::local_addr)
            .map_err(refused)?;
        let local_addresses = group.first().and_then(Socket::local_addresses);
        self.local_addresses.extend(local_addresses.cloned());
        for (shard, socket) in self.of_shards.iter_mut().zip(group) {
            shard.push((port, socket));
        }
        Ok(bound)
    }
}

/// Binds a group, if need be a little later: the kernel holds the ports of a server that was killed
/// until it has taken its rings apart, which it does after the process is gone.
fn bind_patiently(address: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
    let mut attempts = PORT_WAIT.as_millis() / PORT_PAUSE.as_millis();
    loop {
        match Socket::bind_group(address, count) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {
                attempts -= 1;
                thread::sleep(PORT_PAUSE);
            }
            bound => return bound,
        }
    }
}

/// Lets the kernel deliver datagrams with a connection id to the shards that own them.
fn steer(sockets: &[Vec<(Port, Socket)>]) {
    if sockets.len() < 2 {
        return;
    }
    let mut first = sockets.iter().flatten();
    let Some((_, member)) = first.find(|(port, _)| *port == Port::Secure) else {
        return;
    };
    if let Err(error) = steering::attach(member) {
        tracing::warn!(
            %error,
            "the kernel takes no steering program (SO_ATTACH_REUSEPORT_CBPF): datagrams of devices \
             whose address changed reach their shard through another one, which costs CPU time; \
             nothing is lost by it"
        );
    }
}
