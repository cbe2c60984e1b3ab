//! Where packets go: from a client's namespace over links and tunnels to an endpoint's.

use std::net::IpAddr;

use nsm_model::ifname::IfName;
use nsm_plan::{KeyDigest, Link, Netns, NetnsId, Resource, Role};

use super::{Kernel, link};

/// What a client's packets reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The namespace at the other end.
    pub namespace: NetnsId,
    /// The client's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The keys of the links on the way, each with its node.
    pub links: Vec<(usize, KeyDigest)>,
}

/// What a namespace on a node reaches through the link that this name has there.
#[must_use]
pub fn reach(kernels: &[Kernel], node: usize, from: NetnsId, name: &str) -> Option<Reached> {
    let name: IfName = name.parse().ok()?;
    let kernel = &kernels[node];
    let state = kernel.state();
    let entry = state.standing.values().find(|entry| {
        let ends = link(entry).map(Link::ends).unwrap_or_default();
        ends.iter()
            .any(|end| end.netns == Netns::Id(from) && end.name == name)
    })?;
    let key = entry.id.key;
    if state.down.contains(&key) {
        return None;
    }
    let addresses = kernel_addresses(&state.standing, key, Role::Client);
    let found = match link(entry)? {
        Link::Veth { far, .. } => match far.netns {
            Netns::Id(namespace) => Some(Reached {
                namespace,
                addresses,
                links: vec![(node, key)],
            }),
            Netns::Node => None,
        },
        Link::Vxlan { tunnel, .. } => {
            let (vni, local, remote) = (tunnel.vni, tunnel.local, tunnel.remote);
            let other = kernels.iter().find(|kernel| kernel.address == remote)?;
            drop(state);
            let there = other.state();
            let back = there
                .standing
                .values()
                .find_map(|entry| match link(entry)? {
                    Link::Vxlan { end, tunnel } if tunnel.vni == vni && tunnel.remote == local => {
                        Some((entry.id.key, end.netns))
                    }
                    Link::Vxlan { .. } | Link::Veth { .. } => None,
                });
            let (far, netns) = back.filter(|(far, _)| !there.down.contains(far))?;
            match netns {
                Netns::Id(namespace) => Some(Reached {
                    namespace,
                    addresses,
                    links: vec![(node, key), (other.node, far)],
                }),
                Netns::Node => None,
            }
        }
    };
    found.filter(|found| !found.addresses.is_empty())
}

fn kernel_addresses(
    standing: &std::collections::BTreeMap<nsm_plan::ResourceId, nsm_plan::Entry>,
    key: KeyDigest,
    role: Role,
) -> Vec<IpAddr> {
    let of_key = standing
        .values()
        .filter(|entry| entry.id.key == key && entry.id.role == role);
    of_key
        .filter_map(|entry| match &entry.resource {
            Resource::Address(address) => Some(address.net.addr()),
            Resource::Link(_)
            | Resource::Sysctl(_)
            | Resource::Route(_)
            | Resource::Neighbour(_) => None,
        })
        .collect()
}
