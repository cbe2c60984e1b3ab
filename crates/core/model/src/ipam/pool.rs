//! The addresses of one prefix and which of them are free.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Pair;

/// One prefix as ranges of free addresses. Every address of the prefix is handed out, the network's
/// and the broadcast one as well: the far ends use them as single hosts (/32, /128).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    prefix: IpNet,
    /// First address of a free range to its last one.
    free: BTreeMap<u128, u128>,
    in_use: u128,
}

impl Pool {
    /// A pool whose addresses are all free.
    pub fn new(prefix: IpNet) -> Self {
        let prefix = prefix.trunc();
        let (first, last) = bounds(&prefix);
        Self {
            prefix,
            free: [(first, last)].into(),
            in_use: 0,
        }
    }

    /// The prefix.
    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// How many addresses the prefix has (one less for a whole IPv6 space, whose number overflows).
    pub fn size(&self) -> u128 {
        let (first, last) = bounds(&self.prefix);
        (last - first).saturating_add(1)
    }

    /// How many addresses are taken.
    pub fn in_use(&self) -> u128 {
        self.in_use
    }

    /// Whether the address is of this prefix and free.
    pub fn is_free(&self, address: IpAddr) -> bool {
        self.prefix.contains(&address) && self.range_of(number(address)).is_some()
    }

    /// Takes an address; false, and no change, if it is not free here.
    pub fn take(&mut self, address: IpAddr) -> bool {
        let at = number(address);
        let Some((first, last)) = self.range_of(at).filter(|_| self.prefix.contains(&address))
        else {
            return false;
        };
        self.free.remove(&first);
        if first < at {
            self.free.insert(first, at - 1);
        }
        if at < last {
            self.free.insert(at + 1, last);
        }
        self.in_use += 1;
        true
    }

    /// Gives an address back; false, and no change, if it is not taken here.
    pub fn give(&mut self, address: IpAddr) -> bool {
        let at = number(address);
        if !self.prefix.contains(&address) || self.range_of(at).is_some() {
            return false;
        }
        let before = self
            .free
            .range(..at)
            .next_back()
            .map(|(f, l)| (*f, *l))
            .filter(|(_, last)| last + 1 == at);
        let after = at.checked_add(1).and_then(|next| self.free.remove(&next));
        let first = before.map_or(at, |(first, _)| first);
        self.free.insert(first, after.unwrap_or(at));
        self.in_use -= 1;
        true
    }

    /// The two lowest free addresses outside `excluded`: the first is the endpoint's.
    pub fn lowest_pair(&self, excluded: &[IpNet]) -> Option<Pair> {
        let dst = self.lowest_from(0, excluded)?;
        let src = self.lowest_from(dst.checked_add(1)?, excluded)?;
        Some(Pair {
            dst: self.address(dst)?,
            src: self.address(src)?,
        })
    }

    /// Whether both addresses are free here.
    pub(super) fn has_pair(&self, pair: &Pair) -> bool {
        pair.dst != pair.src && self.is_free(pair.dst) && self.is_free(pair.src)
    }

    fn lowest_from(&self, mut from: u128, excluded: &[IpNet]) -> Option<u128> {
        loop {
            let in_range = self.range_of(from).map(|_| from);
            let candidate =
                in_range.or_else(|| self.free.range(from..).next().map(|(first, _)| *first))?;
            let address = self.address(candidate)?;
            match excluded.iter().find(|prefix| prefix.contains(&address)) {
                None => return Some(candidate),
                // Each turn leaves an exclusion behind for good, so the turns are as many as those.
                Some(prefix) => from = bounds(prefix).1.checked_add(1)?,
            }
        }
    }

    fn range_of(&self, at: u128) -> Option<(u128, u128)> {
        self.free
            .range(..=at)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= at)
    }

    fn address(&self, at: u128) -> Option<IpAddr> {
        match self.prefix {
            IpNet::V4(_) => u32::try_from(at)
                .ok()
                .map(|bits| IpAddr::from(bits.to_be_bytes())),
            IpNet::V6(_) => Some(IpAddr::from(at.to_be_bytes())),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn bounds(prefix: &IpNet) -> (u128, u128) {
    (number(prefix.network()), number(prefix.broadcast()))
}
