//! The handshakes under way on one listening socket: whose they are, and which is given up when
//! there are too many.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The most handshakes at a time on one listening socket. Beyond it one is given up, the oldest of
/// whoever has most of them: whoever keeps the server waiting loses, whoever is quick gets in, and
/// a crowd from one place takes nobody else's.
pub const MAX_HANDSHAKES: usize = 512;

/// Where a handshake comes from, as far as that is known before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A user of this machine, by the kernel's word.
    User(u32),
    /// A machine: its IPv4 address, or its IPv6 network, whose addresses it may choose freely.
    Machine(IpAddr),
    /// The kernel does not say.
    Unknown,
}

impl Origin {
    /// Where a TCP peer is.
    pub(crate) fn machine(address: IpAddr) -> Self {
        Self::Machine(match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & HOST_NETWORK).into()),
        })
    }
}

/// The first half of an IPv6 address.
const HOST_NETWORK: u128 = !(u64::MAX as u128);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Oldest first.
    under_way: BTreeMap<u64, (Origin, CancellationToken)>,
    of: BTreeMap<Origin, usize>,
}

/// A handshake's place; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    all: Arc<Handshakes>,
    /// Cancelled when it is given up.
    pub(crate) given_up: CancellationToken,
}

impl Handshakes {
    /// Makes room for one more.
    pub(crate) fn begin(self: &Arc<Self>, origin: Origin) -> Place {
        let given_up = CancellationToken::new();
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.under_way.insert(number, (origin, given_up.clone()));
        *table.of.entry(origin).or_default() += 1;
        if table.under_way.len() > MAX_HANDSHAKES
            && let Some(oldest) = table.oldest_of_most()
            && let Some(token) = table.remove(oldest)
        {
            token.cancel();
        }
        Place {
            number,
            all: Arc::clone(self),
            given_up,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn oldest_of_most(&self) -> Option<u64> {
        let (most, _) = self.of.iter().max_by_key(|(_, count)| **count)?;
        let mut oldest_first = self.under_way.iter();
        oldest_first
            .find(|(_, (origin, _))| origin == most)
            .map(|(number, _)| *number)
    }

    fn remove(&mut self, number: u64) -> Option<CancellationToken> {
        let (origin, token) = self.under_way.remove(&number)?;
        if let Some(count) = self.of.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&origin);
            }
        }
        Some(token)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_most_is_given_up() {
        let (alice, mallory) = (Origin::User(1), Origin::User(2));
        let all = Arc::new(Handshakes::default());
        let mut places: Vec<Place> = Vec::new();
        places.push(all.begin(alice));
        places.extend((1..MAX_HANDSHAKES).map(|_| all.begin(mallory)));
        assert!(places.iter().all(|place| !place.given_up.is_cancelled()));
        // The newest of all is an honest one; the first of the crowd goes.
        places.push(all.begin(alice));
        let given_up = |places: &[Place]| -> Vec<usize> {
            let each = places.iter().enumerate();
            each.filter(|(_, place)| place.given_up.is_cancelled())
                .map(|(at, _)| at)
                .collect()
        };
        assert_eq!(given_up(&places), [1]);
        places.push(all.begin(mallory));
        assert_eq!(given_up(&places), [1, 2]);
        drop(places);
        assert!(all.table().under_way.is_empty());
        assert!(all.table().of.is_empty());
    }

    #[test]
    fn origins() {
        for (address, same, other) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ] {
            let of = |text: &str| Origin::machine(text.parse().unwrap());
            assert_eq!(of(address), of(same));
            assert_ne!(of(address), of(other));
        }
    }
}
