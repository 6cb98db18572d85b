//! Connections by where they come from, so that nobody takes all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most connections of one address: more than a browser and a monitoring system open, and half of a
/// listener's. Loopback is one address for all programs of the host, and has no such limit.
const ADDRESS_CONNECTIONS_MAX: u32 = 32;

/// How many connections there are of each address.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    address: Option<IpAddr>,
}

impl Crowd {
    /// A place for a connection from `address`, if that has not too many.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Option<Place> {
        let address = address.filter(|address| !address.to_canonical().is_loopback());
        if let Some(address) = address {
            let mut counts = self.counts();
            let count = counts.entry(address).or_default();
            if *count >= ADDRESS_CONNECTIONS_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut counts = self.crowd.counts();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_others() {
        let crowd = Crowd::default();
        let stranger = Some(IpAddr::from([192, 0, 2, 1]));
        let mut places: Vec<_> = (0..ADDRESS_CONNECTIONS_MAX)
            .map(|_| crowd.enter(stranger).unwrap())
            .collect();
        assert!(crowd.enter(stranger).is_none());
        assert!(crowd.enter(Some(IpAddr::from([192, 0, 2, 2]))).is_some());
        places.pop();
        places.push(crowd.enter(stranger).unwrap());
        assert!(crowd.enter(stranger).is_none());
        drop(places);
        assert!(crowd.counts().is_empty());
        // The unix socket, and programs of this host.
        for address in [None, Some(IpAddr::from([127, 0, 0, 1]))] {
            let many: Vec<_> = (0..100).map(|_| crowd.enter(address)).collect();
            assert!(many.iter().all(Option::is_some));
        }
    }
}
