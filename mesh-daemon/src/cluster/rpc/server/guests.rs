//! Counts connections of which nobody has shown a good certificate, in all and by address, so that whoever
//! opens many and says nothing takes places only from themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::rpc::limits::{MAX_GUESTS, MAX_GUESTS_OF_ADDRESS};

/// The places.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    guests: Guests,
    address: IpAddr,
}

impl Guests {
    /// A place for a connection from there, if there is one left.
    pub(super) fn admit(&self, from: IpAddr) -> Option<Place> {
        let address = neighbourhood(from);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or(0);
        if total >= MAX_GUESTS || own >= MAX_GUESTS_OF_ADDRESS {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Place { guests: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.guests.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.address);
            }
        }
    }
}

/// Whoever has an address of IPv6 has its whole /64.
pub(in crate::cluster) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}
