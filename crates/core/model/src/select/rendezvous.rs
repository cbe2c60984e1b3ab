//! Weighted rendezvous hashing: every key ranks all candidates by itself, so that one that leaves
//! moves only the keys it held (Thaler and Ravishankar 1998; weights: Schindelhauer 2005).

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

/// A candidate's rank for a key; the smallest comes first.
#[derive(Clone, Debug)]
pub(super) struct Rank {
    cost: f64,
    name: String,
}

/// Ranks `name` for `key`: `-ln(u) / weight` is exponentially distributed with rate `weight`, and
/// the smallest of several such draws is each one's with a probability in proportion to its weight.
pub(super) fn rank(key: &[u8], name: &str, weight: u64) -> Rank {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(name.as_bytes());
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    // 53 bits fit a float exactly; the half keeps u strictly between 0 and 1.
    let unit = ((u64::from_be_bytes(first) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    Rank {
        cost: -unit.ln() / weight as f64,
        name: name.to_owned(),
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cost
            .total_cmp(&other.cost)
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}
