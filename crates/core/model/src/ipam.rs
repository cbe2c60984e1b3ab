//! Address allocation for point-to-point connections: one pair of addresses for each group of
//! prefixes (upstream `point2pointipam` and `groupipam`, without their leaks).

mod assigned;
mod groups;
mod pool;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nsm_api::connectioncontext::IPContext;

pub use assigned::{Assigned, Pair};
pub use groups::parse_groups;
pub use pool::Pool;

use wanted::Wanted;

/// Connections one allocator holds: a link each, far more than one endpoint's namespace carries.
pub const MAX_LEASES: usize = 1 << 16;

/// Why there are no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// Every prefix of a group is used up.
    #[error(
        "no two free addresses in {prefixes}: {in_use} of {size} are in use, {excluded} prefixes are excluded by the client; \
         add a prefix or wait until a client leaves"
    )]
    Exhausted {
        /// The group's prefixes, with commas.
        prefixes: String,
        /// Addresses held by connections.
        in_use: u128,
        /// Addresses in all.
        size: u128,
        /// How many exclusions the client sent.
        excluded: usize,
    },
    /// Text that is no address or prefix.
    #[error("{field}: {value:?} is not an address or prefix: write for example 172.16.1.0/24")]
    Address {
        /// The field of the message or the setting.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// Two prefixes share addresses.
    #[error("prefixes {first} and {second} overlap: two connections could get one address")]
    Overlap {
        /// One of them.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
    /// No prefix at all.
    #[error("no prefix to assign addresses from: give at least one, for example 172.16.1.0/24")]
    NoPrefix,
    /// Brackets that do not match.
    #[error("prefix groups {0:?}: brackets do not match: write [172.16.1.0/24],[fd00::/64]")]
    Brackets(String),
    /// A list of the message beyond its limit.
    #[error("{field} has {entries} entries, at most {most} are read")]
    TooLong {
        /// The field of the message.
        field: &'static str,
        /// How many there are.
        entries: usize,
        /// How many there may be.
        most: usize,
    },
    /// More than [`MAX_LEASES`].
    #[error("{MAX_LEASES} connections hold addresses already")]
    TooMany,
}

/// Hands out pairs of addresses. All pairs of a connection, or none; an error changes nothing.
#[derive(Clone, Debug)]
pub struct PointToPoint {
    groups: Vec<Vec<Pool>>,
    leases: BTreeMap<String, Lease>,
}

/// What a connection holds: the pairs of its last Request, and those of its last answered one,
/// which its interfaces still carry until the next answer.
#[derive(Clone, Debug, Default)]
struct Lease {
    current: Vec<Pair>,
    confirmed: Option<Vec<Pair>>,
}

impl Lease {
    fn held(&self) -> BTreeSet<IpAddr> {
        let pairs = self.current.iter().chain(self.confirmed.iter().flatten());
        pairs.flat_map(|pair| [pair.dst, pair.src]).collect()
    }
}

impl PointToPoint {
    /// An allocator that gives a connection one pair from each group; the prefixes of a group are
    /// alternatives, tried in order.
    pub fn new(groups: &[Vec<IpNet>]) -> Result<Self, IpamError> {
        let all: Vec<_> = groups.iter().flatten().collect();
        if all.is_empty() || groups.iter().any(Vec::is_empty) {
            return Err(IpamError::NoPrefix);
        }
        for (i, first) in all.iter().enumerate() {
            if let Some(second) = all
                .iter()
                .skip(i + 1)
                .find(|p| p.contains(*first) || first.contains(**p))
            {
                return Err(IpamError::Overlap {
                    first: **first,
                    second: **second,
                });
            }
        }
        let groups = groups
            .iter()
            .map(|group| group.iter().map(|prefix| Pool::new(*prefix)).collect())
            .collect();
        Ok(Self {
            groups,
            leases: BTreeMap::new(),
        })
    }

    /// The pairs of connection `id`: those it holds, those that `wanted` asks to keep if they are
    /// free, else the two lowest free addresses outside the exclusions (the first is the
    /// endpoint's). Call [`Self::confirm`] once the Request is answered, [`Self::undo`] if it
    /// fails.
    pub fn allocate(&mut self, id: &str, wanted: &IPContext) -> Result<Assigned, IpamError> {
        let wanted = Wanted::parse(wanted)?;
        if self.leases.len() == MAX_LEASES && !self.leases.contains_key(id) {
            return Err(IpamError::TooMany);
        }
        // Its own addresses count as free while it chooses; they are taken again at the end.
        let mut lease = self.leases.remove(id).unwrap_or_default();
        self.give(&lease.held());
        let chosen = self.choose(&lease.current, &wanted);
        if let Ok(pairs) = &chosen {
            lease.current.clone_from(pairs);
        }
        self.take(&lease.held());
        if !lease.current.is_empty() {
            self.leases.insert(id.to_owned(), lease);
        }
        Ok(Assigned::new(chosen?, self.prefixes()))
    }

    /// The Request was answered: what the connection held before is free.
    pub fn confirm(&mut self, id: &str) {
        if let Some(mut lease) = self.leases.remove(id) {
            self.give(&lease.held());
            lease.confirmed = Some(lease.current.clone());
            self.take(&lease.held());
            self.leases.insert(id.to_owned(), lease);
        }
    }

    /// The Request failed: the connection holds what it held when it was last answered, if ever.
    pub fn undo(&mut self, id: &str) {
        if let Some(mut lease) = self.leases.remove(id) {
            self.give(&lease.held());
            if let Some(confirmed) = lease.confirmed.clone() {
                lease.current = confirmed;
                self.take(&lease.held());
                self.leases.insert(id.to_owned(), lease);
            }
        }
    }

    /// Frees all that connection `id` holds; whether it held anything. A second call does nothing.
    pub fn free(&mut self, id: &str) -> bool {
        let lease = self.leases.remove(id);
        if let Some(lease) = &lease {
            self.give(&lease.held());
        }
        lease.is_some()
    }

    /// The pairs connection `id` was last given.
    pub fn pairs(&self, id: &str) -> &[Pair] {
        self.leases.get(id).map_or(&[], |lease| &lease.current)
    }

    /// How many connections hold addresses.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// How many addresses are held.
    pub fn in_use(&self) -> u128 {
        self.groups.iter().flatten().map(Pool::in_use).sum()
    }

    /// Every prefix of every group.
    pub fn prefixes(&self) -> Vec<IpNet> {
        self.groups.iter().flatten().map(Pool::prefix).collect()
    }

    fn choose(&self, current: &[Pair], wanted: &Wanted) -> Result<Vec<Pair>, IpamError> {
        let of_group = |pools: &Vec<Pool>| {
            let free =
                |pair: &Pair| wanted.allows(pair) && pools.iter().any(|pool| pool.has_pair(pair));
            current
                .iter()
                .copied()
                .find(free)
                .or_else(|| pools.iter().find_map(|pool| wanted.pair_in(pool)))
                .or_else(|| {
                    pools
                        .iter()
                        .find_map(|pool| pool.lowest_pair(&wanted.excluded))
                })
                .ok_or_else(|| exhausted(pools, wanted))
        };
        self.groups.iter().map(of_group).collect()
    }

    fn give(&mut self, addresses: &BTreeSet<IpAddr>) {
        for pool in self.groups.iter_mut().flatten() {
            for address in addresses {
                pool.give(*address);
            }
        }
    }

    fn take(&mut self, addresses: &BTreeSet<IpAddr>) {
        for pool in self.groups.iter_mut().flatten() {
            for address in addresses {
                pool.take(*address);
            }
        }
    }
}

fn exhausted(pools: &[Pool], wanted: &Wanted) -> IpamError {
    let prefixes: Vec<_> = pools.iter().map(|pool| pool.prefix().to_string()).collect();
    IpamError::Exhausted {
        prefixes: prefixes.join(", "),
        in_use: pools.iter().map(Pool::in_use).sum(),
        size: pools
            .iter()
            .fold(0, |sum, pool| pool.size().saturating_add(sum)),
        excluded: wanted.excluded.len(),
    }
}

#[cfg(test)]
mod tests;
