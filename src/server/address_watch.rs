//! Which addresses the host has, as they come and go: one may move here from another host at any time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::shard::local_addresses::LocalAddresses;

/// Tells the sockets that are bound to all addresses; without such it does nothing.
pub(super) struct AddressWatch {
    told: Vec<Arc<LocalAddresses>>,
}

impl AddressWatch {
    /// Tells them of the addresses that are there now.
    pub(super) fn start(told: &[Arc<LocalAddresses>]) -> Self {
        let watch = Self {
            told: told.to_vec(),
        };
        watch.tick();
        watch
    }

    /// The same again. Should the kernel not say, what it said last holds.
    pub(super) fn tick(&self) {
        if self.told.is_empty() {
            return;
        }
        if let Ok(addresses) = host_addresses() {
            for told in &self.told {
                told.set_choice(&addresses);
            }
        }
    }
}

fn host_addresses() -> nix::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| ip(&interface.address?));
    Ok(addresses.collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(Ipv4Addr::from(v4.ip()).into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_loopback_address() {
        let addresses = host_addresses().unwrap();
        assert!(
            addresses.contains(&Ipv4Addr::LOCALHOST.into()),
            "{addresses:?}"
        );
    }
}
