//! From a connection's message to the two sides of a plan.

use std::net::IpAddr;

use ipnet::IpNet;
use nsm_api::{
    connection::Connection,
    connectioncontext::{IPContext, Route},
};
use nsm_chain::{Code, Error, Kept};
use nsm_model::{
    ifname::IfName,
    mechanism::{Mtu, Vni},
};
use nsm_plan::{KernelSide, NetnsId, Side, VxlanSide};
use serde::{Deserialize, Serialize};

/// The MTU of a connection whose context names none: Ethernet's.
pub(crate) const DEFAULT_MTU: u32 = 1500;

/// Addresses of one end: one a family is usual. Each route of a plan stands on all of its family.
const MAX_ADDRESSES: usize = 64;
/// Routes of one end: a cluster's prefixes are some dozens, and a whole routing table is no
/// connection's. What a plan costs grows with the square.
const MAX_ROUTES: usize = 1024;
/// Neighbours of one connection: one for each address of the other end is usual.
const MAX_NEIGHBOURS: usize = 1024;

/// One end of a tunnel between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Our node's address.
    pub local: IpAddr,
    /// The other node's.
    pub remote: IpAddr,
    /// The UDP port of both.
    pub port: u16,
    /// The connection's number on both.
    pub vni: Vni,
}

impl Kept for Tunnel {
    const NAME: &'static str = "mechanisms";
}

impl From<Tunnel> for Side {
    fn from(tunnel: Tunnel) -> Self {
        let Tunnel {
            local,
            remote,
            port,
            vni,
        } = tunnel;
        Self::Vxlan(VxlanSide {
            local,
            remote,
            port,
            vni,
        })
    }
}

/// Whose end a kernel interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one who asked.
    Client,
    /// The one who offers.
    Endpoint,
}

/// The interface of one end, with what the connection's context says of it.
///
/// # Errors
/// `InvalidArgument` names the context's field and the value that is no address or prefix.
pub fn kernel_side(
    connection: &Connection,
    end: End,
    netns: NetnsId,
    name: IfName,
    bare: bool,
    digest: &[u8; 16],
) -> Result<Side, Error> {
    let ip = &connection.context.ip_context;
    let (addrs, peers, routes, word) = match end {
        End::Client => (&ip.src_ip_addrs, &ip.dst_ip_addrs, &ip.src_routes, "src"),
        End::Endpoint => (&ip.dst_ip_addrs, &ip.src_ip_addrs, &ip.dst_routes, "dst"),
    };
    let addrs = parse_all(addrs, &format!("{word}_ip_addrs"))?;
    let mac = match addrs.first() {
        Some(net) if !bare => nsm_model::context::mac_for(net.addr()),
        Some(_) | None => port_mac(digest, end),
    };
    let mtu = if connection.context.MTU == 0 {
        DEFAULT_MTU
    } else {
        connection.context.MTU
    };
    let mtu = Mtu::new(mtu)
        .map_err(|error| Error::new(Code::InvalidArgument, format!("context.MTU: {error}")))?;
    Ok(Side::Kernel(KernelSide {
        netns,
        name,
        mac,
        neighbours: neighbours(ip)?,
        routes: parse_routes(routes, &addrs, peers, word)?,
        addrs,
        mtu,
        bare,
    }))
}

/// An interface without an address gets its MAC from the connection: bridge ports must differ.
fn port_mac(digest: &[u8; 16], end: End) -> [u8; 6] {
    let last = match end {
        End::Client => digest[5],
        End::Endpoint => !digest[5],
    };
    // Locally administered, unicast (IEEE 802).
    [0x02, digest[1], digest[2], digest[3], digest[4], last]
}

/// The context is the other side's word: what it lists has a limit before it is worked on.
fn limit(entries: usize, most: usize, field: &str) -> Result<(), Error> {
    if entries <= most {
        return Ok(());
    }
    let message =
        format!("context.ip_context.{field} has {entries} entries, at most {most} are taken");
    Err(Error::new(Code::InvalidArgument, message))
}

fn parse_all(texts: &[String], field: &str) -> Result<Vec<IpNet>, Error> {
    limit(texts.len(), MAX_ADDRESSES, field)?;
    texts.iter().map(|text| parse(text, field)).collect()
}

fn parse(text: &str, field: &str) -> Result<IpNet, Error> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let message = format!("context.ip_context.{field}: {text:?} is no address with a prefix, such as 10.0.0.1/32");
        Error::new(Code::InvalidArgument, message)
    })
}

/// Routes of one end. An empty next hop is the far end's first address of the same family, unless
/// the prefix is that address itself or lies inside one of our own (wire contract 1.3).
fn parse_routes(
    routes: &[Route],
    own: &[IpNet],
    peers: &[String],
    word: &str,
) -> Result<Vec<(IpNet, Option<IpAddr>)>, Error> {
    let field = format!("{word}_routes");
    limit(routes.len(), MAX_ROUTES, &field)?;
    let peers = parse_all(peers, "peer addresses")?;
    let mut parsed = Vec::with_capacity(routes.len());
    for route in routes {
        let prefix = parse(&route.prefix, &field)?;
        let via = if route.nextHop.is_empty() {
            let on_link = own.iter().chain(&peers).any(|net| net.contains(&prefix));
            peers
                .iter()
                .map(IpNet::addr)
                .find(|peer| !on_link && peer.is_ipv4() == prefix.addr().is_ipv4())
        } else {
            Some(route.nextHop.parse().map_err(|_| {
                let message = format!(
                    "context.ip_context.{field}: nextHop {:?} is no address",
                    route.nextHop
                );
                Error::new(Code::InvalidArgument, message)
            })?)
        };
        parsed.push((prefix, via));
    }
    Ok(parsed)
}

fn neighbours(ip: &IPContext) -> Result<Vec<(IpAddr, [u8; 6])>, Error> {
    let wrong = |what: &str, value: &str| {
        let message = format!("context.ip_context.ip_neighbors: {what} {value:?} is malformed");
        Error::new(Code::InvalidArgument, message)
    };
    limit(ip.ip_neighbors.len(), MAX_NEIGHBOURS, "ip_neighbors")?;
    let mut parsed = Vec::with_capacity(ip.ip_neighbors.len());
    for neighbour in &ip.ip_neighbors {
        let address = neighbour
            .ip
            .parse()
            .map_err(|_| wrong("ip", &neighbour.ip))?;
        let mac = parse_mac(&neighbour.hardware_address)
            .ok_or_else(|| wrong("hardware_address", &neighbour.hardware_address))?;
        parsed.push((address, mac));
    }
    Ok(parsed)
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buffa::MessageField;
    use nsm_api::connectioncontext::{ConnectionContext, IpNeighbor};

    fn side(ip: IPContext) -> Result<Side, Error> {
        let context = ConnectionContext {
            ip_context: MessageField::some(ip),
            ..Default::default()
        };
        let connection = Connection {
            context: MessageField::some(context),
            ..Default::default()
        };
        let (netns, name) = (NetnsId { dev: 4, ino: 1 }, "nsm-1".parse().unwrap());
        kernel_side(&connection, End::Client, netns, name, false, &[7; 16])
    }

    #[test]
    fn what_the_other_side_lists_has_a_limit() {
        let lists = |addresses: usize, routes: usize, neighbours: usize| IPContext {
            src_ip_addrs: vec!["10.0.0.1/32".to_owned(); addresses],
            src_routes: vec![
                Route {
                    prefix: "10.0.0.0/8".to_owned(),
                    ..Default::default()
                };
                routes
            ],
            ip_neighbors: vec![
                IpNeighbor {
                    ip: "10.0.0.2".to_owned(),
                    hardware_address: "02:00:00:00:00:02".to_owned(),
                    ..Default::default()
                };
                neighbours
            ],
            ..Default::default()
        };
        side(lists(MAX_ADDRESSES, MAX_ROUTES, MAX_NEIGHBOURS)).unwrap();
        for (ip, says) in [
            (
                lists(MAX_ADDRESSES + 1, 0, 0),
                "src_ip_addrs has 65 entries",
            ),
            (lists(0, MAX_ROUTES + 1, 0), "src_routes has 1025 entries"),
            (
                lists(0, 0, MAX_NEIGHBOURS + 1),
                "ip_neighbors has 1025 entries",
            ),
        ] {
            let error = side(ip).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument);
            assert!(error.message.contains(says), "{error}");
        }
    }
}
