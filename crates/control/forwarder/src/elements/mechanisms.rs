//! `mechanisms`: how the connection reaches whoever asked for it.
//!
//! *What it does*: sdk `pkg/networkservice/common/mechanisms`: a refresh keeps its mechanism; a new
//! request gets the first of its preferences that this forwarder has: KERNEL for a local caller,
//! VXLAN for another node's forwarder, with a VNI of our choice (wire contract 1.6).
//! *Where it stands*: before `xconnect`, which needs the side; its answer's mechanism is written
//! on the way back, when the side is final.
//! *On Close*: the VNIs of the connection are given back, and not chosen again soon for that peer.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, Mechanism},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Code, Connections, Element, Error, Next, Record, elements::Own};
use nsm_model::{
    ifname::IfName,
    mechanism::{Kernel, Kind, MechanismError, Vxlan},
    url::InodeUrl,
};

use super::discover::Chosen;
use nsm_plan::{NetnsId, Side};

use crate::{
    Tunnel,
    lives::Broken,
    sides::{End, kernel_side},
    vnis::Vnis,
};

/// The side towards whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NearSide {
    /// An interface in the caller's namespace.
    Kernel {
        /// The namespace.
        netns: InodeUrl,
        /// The interface's name.
        name: IfName,
        /// Without addresses and routes.
        bare: bool,
    },
    /// A tunnel from the caller's node.
    Vxlan {
        /// Both ends; the VNI is ours to choose.
        tunnel: Tunnel,
    },
}

impl std::fmt::Display for NearSide {
    /// `TYPE/name`, as upstream's metrics have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel { name, .. } => write!(f, "KERNEL/{name}"),
            Self::Vxlan { tunnel, .. } => write!(f, "VXLAN/{}", tunnel.vni),
        }
    }
}

impl NearSide {
    /// The namespace of whoever asked, where that is on this node.
    pub(crate) fn namespace(&self) -> Option<NetnsId> {
        match self {
            Self::Kernel { netns, .. } => Some(NetnsId {
                dev: netns.dev,
                ino: netns.ino,
            }),
            Self::Vxlan { .. } => None,
        }
    }

    /// As a plan has it.
    ///
    /// # Errors
    /// The connection's context is malformed.
    pub(crate) fn side(&self, connection: &Connection, digest: &[u8; 16]) -> Result<Side, Error> {
        match self {
            Self::Kernel { netns, name, bare } => {
                let netns = NetnsId {
                    dev: netns.dev,
                    ino: netns.ino,
                };
                kernel_side(connection, End::Client, netns, name.clone(), *bare, digest)
            }
            Self::Vxlan { tunnel } => Ok(Side::from(*tunnel)),
        }
    }
}

/// The side, and the mechanism that says it on the wire.
#[derive(Debug, Clone)]
pub struct Near {
    /// The side.
    pub side: NearSide,
    mechanism: Mechanism,
}

/// See the module.
#[derive(Debug)]
pub struct Mechanisms {
    vnis: Arc<Vnis>,
    tunnel_ip: IpAddr,
    port: u16,
}

fn bad(id: &str, error: &MechanismError) -> Error {
    Error::new(Code::InvalidArgument, format!("connection {id}: {error}"))
}

impl Mechanisms {
    /// The element of a node that ends tunnels at this address and UDP port.
    #[must_use]
    pub fn new(vnis: Arc<Vnis>, tunnel_ip: IpAddr, port: u16) -> Self {
        Self {
            vnis,
            tunnel_ip,
            port,
        }
    }

    fn near(&self, call: &Call, request: &NetworkServiceRequest) -> Result<Near, Error> {
        let connection = &request.connection;
        let chosen = connection
            .mechanism
            .as_option()
            .filter(|mechanism| !mechanism.r#type.is_empty());
        let offered: Vec<&Mechanism> = match chosen {
            Some(mechanism) => vec![mechanism],
            None => request.mechanism_preferences.iter().collect(),
        };
        for mechanism in &offered {
            match Kind::of(mechanism) {
                Kind::Kernel => return kernel(call, connection, mechanism),
                Kind::Vxlan => return self.vxlan(call, connection, mechanism),
                Kind::Memif
                | Kind::Vfio
                | Kind::Noop
                | Kind::Wireguard
                | Kind::Ipsec
                | Kind::Srv6
                | Kind::Vlan
                | Kind::Other(_) => {}
            }
        }
        let names: Vec<&str> = offered
            .iter()
            .map(|mechanism| mechanism.r#type.as_str())
            .collect();
        let message = format!(
            "connection {}: no common mechanism: it asks for [{}], this forwarder has KERNEL on its node and VXLAN \
             between nodes",
            connection.id,
            names.join(", ")
        );
        Err(Error::new(Code::Unimplemented, message))
    }

    fn vxlan(
        &self,
        call: &Call,
        connection: &Connection,
        mechanism: &Mechanism,
    ) -> Result<Near, Error> {
        let id = &connection.id;
        let asked = Vxlan::parse(mechanism).map_err(|error| bad(id, &error))?;
        let remote = asked.src_ip.ok_or_else(|| {
            let message = format!("connection {id}: VXLAN without src_ip: the forwarder that asks must say its address");
            Error::new(Code::InvalidArgument, message)
        })?;
        if let Some(port) = asked.src_port.filter(|port| *port != self.port) {
            let message = format!(
                "connection {id}: {remote} uses VXLAN port {port}, this node {}: set both forwarders to one port",
                self.port
            );
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        let known = call
            .store
            .kept::<Tunnel>()
            .filter(|known| known.remote == remote);
        // What is made anew may have other addresses. Until the other end has them as well, its old
        // ones must lead nowhere: they may be somebody else's by now.
        let anew = call.store.get::<Broken>().is_some();
        let (known, offered) = if anew {
            (None, None)
        } else {
            (known, asked.vni)
        };
        let kept = offered
            .filter(|vni| known.is_none_or(|known| known.vni == *vni))
            // Whoever asks may have been started again and forgotten it: packets flow through it.
            .or(known
                .filter(|_| serves(call, connection))
                .map(|known| known.vni));
        let vni = match kept {
            Some(vni) => {
                self.vnis.claim(id, vni);
                vni
            }
            None => self.vnis.pick(id, remote, self.tunnel_ip)?,
        };
        let tunnel = Tunnel {
            local: self.tunnel_ip,
            remote,
            port: self.port,
            vni,
        };
        Ok(Near {
            side: NearSide::Vxlan { tunnel },
            mechanism: mechanism.clone(),
        })
    }
}

/// Whether the endpoint that is asked for is the one that serves the connection.
fn serves(call: &Call, connection: &Connection) -> bool {
    let chosen = call.store.kept::<Chosen>();
    chosen.is_some_and(|chosen| chosen.0 == connection.network_service_endpoint_name)
}

fn kernel(call: &Call, connection: &Connection, mechanism: &Mechanism) -> Result<Near, Error> {
    let id = &connection.id;
    let asked = Kernel::parse(mechanism).map_err(|error| bad(id, &error))?;
    let netns = asked.netns.ok_or_else(|| {
        let message = format!(
            "connection {id}: KERNEL parameter inodeURL is {:?}: it must be inode://<device>/<inode> of a network \
             namespace whose descriptor is sent beside the call",
            mechanism.parameters.get("inodeURL").map_or("", String::as_str)
        );
        Error::new(Code::InvalidArgument, message)
    })?;
    let name = match asked.name {
        Some(name) => name,
        None => IfName::generate(&connection.network_service, &Own::of(call)?.key.digest(), 0),
    };
    let side = NearSide::Kernel {
        netns,
        name,
        bare: asked.bare,
    };
    Ok(Near {
        side,
        mechanism: mechanism.clone(),
    })
}

impl Near {
    /// The mechanism as the caller gets it.
    fn answer(&self) -> Result<Mechanism, Error> {
        let mut mechanism = self.mechanism.clone();
        let internal = |error: MechanismError| Error::new(Code::Internal, error.to_string());
        match &self.side {
            NearSide::Kernel { name, .. } => {
                let mut said = Kernel::parse(&mechanism).map_err(internal)?;
                said.name = Some(name.clone());
                said.write(&mut mechanism);
            }
            NearSide::Vxlan { tunnel } => {
                let mut said = Vxlan::parse(&mechanism).map_err(internal)?;
                said.dst_ip = Some(tunnel.local);
                said.dst_port = Some(tunnel.port);
                said.vni = Some(tunnel.vni);
                said.write(&mut mechanism);
            }
        }
        Ok(mechanism)
    }
}

#[async_trait]
impl Element<Connections> for Mechanisms {
    fn name(&self) -> &'static str {
        "mechanisms"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let id = request.connection.id.clone();
        let near = self.near(call, &request)?;
        call.scratch.put(near);
        let answer = next.request(call, request).await;
        let near = call
            .scratch
            .get::<Near>()
            .ok_or_else(|| Error::new(Code::Internal, "the near side was lost"))?;
        let mut connection = answer.inspect_err(|_| {
            // A refresh that failed keeps its VNI, and that one alone: its packets flow.
            match (call.store.kept::<Tunnel>(), &near.side) {
                (None, _) => self.vnis.release(&id),
                (Some(known), NearSide::Vxlan { tunnel }) if known.vni != tunnel.vni => {
                    self.vnis.release_one(&id, tunnel.vni);
                }
                (Some(_), _) => {}
            }
        })?;
        if let NearSide::Vxlan { tunnel } = near.side {
            let before = call.store.keep(tunnel);
            if let Some(before) = before.filter(|before| before.vni != tunnel.vni) {
                self.vnis.refuse(before.remote, before.vni);
                self.vnis.release_one(&id, before.vni);
            }
        }
        connection.mechanism = buffa::MessageField::some(near.answer()?);
        Ok(connection)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let id = connection.id.clone();
        let closed = next.close(call, connection).await;
        if let Some(tunnel) = call.store.take_kept::<Tunnel>() {
            self.vnis.refuse(tunnel.remote, tunnel.vni);
        }
        self.vnis.release(&id);
        closed
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        if let Some(tunnel) = call.store.kept::<Tunnel>() {
            self.vnis.claim(&record.item.id, tunnel.vni);
        }
        next.restore(call, record).await
    }
}
