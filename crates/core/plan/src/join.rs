//! The table of joins: how two sides become one connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nsm_model::ifname::IfName;
use nsm_model::mechanism::Mtu;

use crate::resource::{Address, Neighbour, Resource, ResourceId, Role, Route, Sysctl, What};
use crate::{
    End, Entry, KernelSide, KeyDigest, Link, Netns, Plan, Side, Tunnel, VxlanSide, alias,
    derived_index,
};

/// Why two sides cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No row in the table.
    #[error(
        "no join of a {client} side with a {endpoint} side: this forwarder cannot connect them; offer another mechanism"
    )]
    NoJoin {
        /// The client side's mechanism.
        client: &'static str,
        /// The endpoint side's mechanism.
        endpoint: &'static str,
    },
    /// Client and endpoint name one and the same interface.
    #[error(
        "client and endpoint both ask for interface {name} in {netns}: give one of them another name"
    )]
    SameInterface {
        /// The name asked for twice.
        name: IfName,
        /// Where.
        netns: Netns,
    },
    /// The tunnel's addresses are of two families.
    #[error(
        "VXLAN from {local} to {remote}: both must be IPv4 or both IPv6; check the forwarders' tunnel addresses"
    )]
    MixedUnderlay {
        /// Our outer address.
        local: IpAddr,
        /// The peer's outer address.
        remote: IpAddr,
    },
}

/// Plans the connection of two sides.
///
/// # Errors
/// [`JoinError`] where the table has no row for the pair, or the sides contradict each other.
pub fn cross_connect(key: KeyDigest, client: &Side, endpoint: &Side) -> Result<Plan, JoinError> {
    match (client, endpoint) {
        (Side::Kernel(client), Side::Kernel(endpoint)) => veth(key, client, endpoint),
        (Side::Kernel(client), Side::Vxlan(tunnel)) => vxlan(key, Role::Client, client, tunnel),
        (Side::Vxlan(tunnel), Side::Kernel(endpoint)) => {
            vxlan(key, Role::Endpoint, endpoint, tunnel)
        }
        (Side::Vxlan(_), Side::Vxlan(_)) => Err(JoinError::NoJoin {
            client: client.mechanism(),
            endpoint: endpoint.mechanism(),
        }),
    }
}

/// Kernel and kernel: one veth pair, nothing of ours in the packets' path.
fn veth(key: KeyDigest, client: &KernelSide, endpoint: &KernelSide) -> Result<Plan, JoinError> {
    if (client.netns, &client.name) == (endpoint.netns, &endpoint.name) {
        return Err(JoinError::SameInterface {
            name: client.name.clone(),
            netns: client.netns.into(),
        });
    }
    // Two ends that differ would drop each other's large packets.
    let mtu = client.mtu.min(endpoint.mtu);
    let far = end(key, Role::Endpoint, endpoint, mtu);
    let near = end(key, Role::Client, client, mtu);
    let mut rows = Rows::new(key);
    rows.push(
        Role::Endpoint,
        What::Link,
        Resource::Link(Link::Veth {
            far: far.clone(),
            near: near.clone(),
        }),
    );
    rows.contents(&far, endpoint);
    rows.contents(&near, client);
    Ok(rows.entries.into_iter().collect())
}

/// Kernel and VXLAN: the tunnel's device is the workload's interface.
fn vxlan(
    key: KeyDigest,
    role: Role,
    kernel: &KernelSide,
    tunnel: &VxlanSide,
) -> Result<Plan, JoinError> {
    let VxlanSide {
        local,
        remote,
        port,
        vni,
    } = *tunnel;
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(JoinError::MixedUnderlay { local, remote });
    }
    let end = end(key, role, kernel, kernel.mtu);
    let tunnel = Tunnel {
        local,
        remote,
        port,
        vni,
    };
    let mut rows = Rows::new(key);
    rows.push(
        role,
        What::Link,
        Resource::Link(Link::Vxlan {
            end: end.clone(),
            tunnel,
        }),
    );
    rows.contents(&end, kernel);
    Ok(rows.entries.into_iter().collect())
}

fn end(key: KeyDigest, role: Role, side: &KernelSide, mtu: Mtu) -> End {
    End {
        role,
        netns: side.netns.into(),
        name: side.name.clone(),
        index: derived_index(key, role),
        mac: side.mac,
        mtu,
        alias: alias(key, role),
        bare: side.bare,
    }
}

/// Entries of one connection, all behind its link.
struct Rows {
    key: KeyDigest,
    entries: Vec<Entry>,
}

impl Rows {
    fn new(key: KeyDigest) -> Self {
        Self {
            key,
            entries: Vec::new(),
        }
    }

    fn push(&mut self, role: Role, what: What, resource: Resource) {
        let id = ResourceId {
            key: self.key,
            role,
            what,
        };
        let after = self.before(&id);
        self.entries.push(Entry {
            id,
            after,
            owners: BTreeSet::from([self.key]),
            resource,
        });
    }

    /// What an entry stands on: its link; and a route on its side's addresses of its family, for
    /// the kernel drops an interface's IPv4 routes with its last address.
    fn before(&self, id: &ResourceId) -> Vec<ResourceId> {
        let carries = |have: &ResourceId| match (&have.what, &id.what) {
            (What::Address(net), What::Route(to)) => {
                have.role == id.role && net.addr().is_ipv4() == to.addr().is_ipv4()
            }
            (What::Link, _) => true,
            _ => false,
        };
        let have = self.entries.iter().map(|entry| &entry.id);
        have.filter(|have| carries(have)).cloned().collect()
    }

    /// What a workload finds on its interface: IPv6 allowed, addresses, on-link routes, routes with
    /// a next hop, neighbours.
    fn contents(&mut self, end: &End, side: &KernelSide) {
        if side.bare {
            return;
        }
        let (role, netns, name, index) = (end.role, end.netns, &end.name, end.index);
        let v6 = side.addrs.iter().any(|net| net.addr().is_ipv6());
        if v6 {
            let path = format!("ipv6/conf/{name}/disable_ipv6");
            let sysctl = Sysctl {
                netns,
                path: path.clone(),
                value: "0".into(),
            };
            self.push(role, What::Sysctl(path), Resource::Sysctl(sysctl));
        }
        for &net in &side.addrs {
            let address = Address {
                netns,
                name: name.clone(),
                index,
                net,
            };
            self.push(role, What::Address(net), Resource::Address(address));
        }
        // A next hop may be reached through one of the on-link routes.
        for wants_via in [false, true] {
            for &(destination, via) in side
                .routes
                .iter()
                .filter(|(_, via)| via.is_some() == wants_via)
            {
                let destination = destination.trunc();
                let route = Route {
                    netns,
                    name: name.clone(),
                    index,
                    destination,
                    via,
                };
                self.push(role, What::Route(destination), Resource::Route(route));
            }
        }
        for &(address, mac) in &side.neighbours {
            let neighbour = Neighbour {
                netns,
                name: name.clone(),
                index,
                address,
                mac,
            };
            self.push(
                role,
                What::Neighbour(address),
                Resource::Neighbour(neighbour),
            );
        }
    }
}
