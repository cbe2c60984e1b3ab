//! The pairs a connection got, and how they are written into its context.

use std::net::IpAddr;

use ipnet::IpNet;
use nsm_api::connectioncontext::{IPContext, Route};

/// The two ends of a point-to-point connection in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The endpoint's address.
    pub dst: IpAddr,
    /// The client's address.
    pub src: IpAddr,
}

/// What a connection got: a pair from each group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The pairs, in the order of the groups.
    pub pairs: Vec<Pair>,
    prefixes: Vec<IpNet>,
}

impl Assigned {
    pub(super) fn new(pairs: Vec<Pair>, prefixes: Vec<IpNet>) -> Self {
        Self { pairs, prefixes }
    }

    /// Writes addresses and the routes to each other's end. What the context says about other
    /// addresses of the allocator's prefixes goes: they are somebody else's. Addresses outside its
    /// prefixes stay. Written twice is written once.
    pub fn write(&self, context: &mut IPContext) {
        self.replace(context, |address| {
            self.prefixes.iter().any(|prefix| prefix.contains(&address))
        });
    }

    /// As [`Self::write`], and every address from outside the prefixes goes too: what a client
    /// still carries from an endpoint that it has left.
    pub fn write_alone(&self, context: &mut IPContext) {
        self.replace(context, |_| true);
    }

    fn replace(&self, context: &mut IPContext, ours: impl Fn(IpAddr) -> bool) {
        let src: Vec<_> = self.pairs.iter().map(|pair| host(pair.src)).collect();
        let dst: Vec<_> = self.pairs.iter().map(|pair| host(pair.dst)).collect();
        set_addresses(&mut context.src_ip_addrs, &src, &ours);
        set_addresses(&mut context.dst_ip_addrs, &dst, &ours);
        set_routes(&mut context.src_routes, &dst, &ours);
        set_routes(&mut context.dst_routes, &src, &ours);
    }
}

/// The address with the prefix of a single host.
fn host(address: IpAddr) -> String {
    IpNet::from(address).to_string()
}

fn set_addresses(list: &mut Vec<String>, right: &[String], ours: &impl Fn(IpAddr) -> bool) {
    let stays = |text: &String| !text.parse::<IpNet>().is_ok_and(|net| ours(net.addr()));
    list.retain(stays);
    for address in right {
        if !list.contains(address) {
            list.push(address.clone());
        }
    }
}

/// Routes to networks are not ours to judge: only those to single hosts come and go.
fn set_routes(list: &mut Vec<Route>, right: &[String], ours: &impl Fn(IpAddr) -> bool) {
    let to_our_host = |route: &Route| {
        route
            .prefix
            .parse::<IpNet>()
            .is_ok_and(|net| net.prefix_len() == net.max_prefix_len() && ours(net.addr()))
    };
    list.retain(|route| !to_our_host(route) || right.contains(&route.prefix));
    for prefix in right {
        if !list.iter().any(|route| route.prefix == *prefix) {
            list.push(Route {
                prefix: prefix.clone(),
                ..Default::default()
            });
        }
    }
}
