//! What a Request says about its addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use nsm_api::connectioncontext::IPContext;

use super::groups::prefix;
use super::{IpamError, Pair, Pool};

/// Addresses of a side that are looked at, and prefixes that are excluded, at most: a client has a
/// pair a family, and a cluster a few dozen ranges; the pairs tried are the square of the first.
pub(super) const MAX_WANTED: usize = 64;
/// See [`MAX_WANTED`].
pub(super) const MAX_EXCLUDED: usize = 1024;

/// The exclusions of a Request and the addresses that it asks to keep.
pub(super) struct Wanted {
    src: Vec<IpAddr>,
    dst: Vec<IpAddr>,
    pub(super) excluded: Vec<IpNet>,
}

impl Wanted {
    pub(super) fn parse(context: &IPContext) -> Result<Self, IpamError> {
        let addresses = |nets: Vec<IpNet>| nets.into_iter().map(|net| net.addr()).collect();
        Ok(Self {
            src: addresses(prefixes(
                "ip_context.src_ip_addrs",
                &context.src_ip_addrs,
                MAX_WANTED,
            )?),
            dst: addresses(prefixes(
                "ip_context.dst_ip_addrs",
                &context.dst_ip_addrs,
                MAX_WANTED,
            )?),
            excluded: prefixes(
                "ip_context.excluded_prefixes",
                &context.excluded_prefixes,
                MAX_EXCLUDED,
            )?,
        })
    }

    /// Whether no exclusion hits the pair.
    pub(super) fn allows(&self, pair: &Pair) -> bool {
        !self
            .excluded
            .iter()
            .any(|prefix| prefix.contains(&pair.dst) || prefix.contains(&pair.src))
    }

    /// The pair it asks to keep in this pool, if both ends are free: half a pair is of no use.
    pub(super) fn pair_in(&self, pool: &Pool) -> Option<Pair> {
        let pairs = self.dst.iter().flat_map(|dst| {
            self.src.iter().map(|src| Pair {
                dst: *dst,
                src: *src,
            })
        });
        pairs
            .into_iter()
            .find(|pair| self.allows(pair) && pool.has_pair(pair))
    }
}

fn prefixes(field: &'static str, texts: &[String], most: usize) -> Result<Vec<IpNet>, IpamError> {
    if texts.len() > most {
        return Err(IpamError::TooLong {
            field,
            entries: texts.len(),
            most,
        });
    }
    texts.iter().map(|text| prefix(field, text)).collect()
}
