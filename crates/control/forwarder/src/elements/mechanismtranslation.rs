//! `mechanismtranslation`: how the connection goes on from here, whatever way it came.
//!
//! *What it does*: sdk `pkg/networkservice/common/mechanismtranslation` with `filtermechanisms` and
//! `mtu`: the caller's mechanism and preferences stop here; the next hop is offered ours: KERNEL to
//! an endpoint of this node, VXLAN to another node, for which the MTU is cut by what a tunnel adds.
//! A refresh offers what was agreed.
//! *Where it stands*: after `roundrobin`, which chose the next hop; before `connect`.
//! *On Close*: nothing.

use std::net::IpAddr;

use async_trait::async_trait;
use buffa::MessageField;
use nsm_api::{
    connection::{Connection, Mechanism},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Code, Connections, Element, Error, Kept, Next, Target, elements::Downstream,
};
use nsm_model::mechanism::{
    Kernel, Kind, MechanismError, Mtu, Payload, Vxlan, encrypted, keys, overhead,
};
use nsm_plan::{NetnsId, Side};
use serde::{Deserialize, Serialize};

use crate::{
    Tunnel,
    sides::{DEFAULT_MTU, End, kernel_side},
};

/// What is allowed to leave this node, and how.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Our end of tunnels.
    pub tunnel_ip: IpAddr,
    /// Their UDP port.
    pub port: u16,
    /// The MTU of the link that tunnels leave through, bytes.
    pub underlay_mtu: u32,
    /// Refuse to carry IP payload between nodes unencrypted.
    pub require_encryption: bool,
}

/// The mechanism that was agreed with the next hop: with which hop, or endpoint of this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Far {
    /// The mechanism.
    #[serde(with = "nsm_chain::message")]
    pub mechanism: Mechanism,
    place: String,
}

impl Kept for Far {
    const NAME: &'static str = "mechanismtranslation";
}

impl std::fmt::Display for Far {
    /// `TYPE/name`, as upstream's metrics have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parameters = &self.mechanism.parameters;
        let name = parameters
            .get(keys::NAME)
            .or_else(|| parameters.get(keys::VNI));
        write!(
            f,
            "{}/{}",
            self.mechanism.r#type,
            name.map_or("", String::as_str)
        )
    }
}

impl Far {
    /// The side towards the endpoint.
    ///
    /// # Errors
    /// `FailedPrecondition`: the next hop answered a mechanism that was not offered, or half of
    /// one.
    pub(crate) fn side(&self, connection: &Connection, digest: &[u8; 16]) -> Result<Side, Error> {
        let id = &connection.id;
        let wrong = |what: String| {
            Error::new(
                Code::FailedPrecondition,
                format!("connection {id}: the next hop {what}"),
            )
        };
        let malformed = |error: MechanismError| wrong(format!("answered a mechanism with {error}"));
        match Kind::of(&self.mechanism) {
            Kind::Kernel => {
                let said = Kernel::parse(&self.mechanism).map_err(malformed)?;
                let netns = said
                    .netns
                    .ok_or_else(|| wrong("answered KERNEL without its namespace".to_owned()))?;
                let name = said
                    .name
                    .ok_or_else(|| wrong("answered KERNEL without an interface name".to_owned()))?;
                let netns = NetnsId {
                    dev: netns.dev,
                    ino: netns.ino,
                };
                kernel_side(connection, End::Endpoint, netns, name, said.bare, digest)
            }
            Kind::Vxlan => {
                let said = Vxlan::parse(&self.mechanism).map_err(malformed)?;
                match (said.src_ip, said.dst_ip, said.dst_port, said.vni) {
                    (Some(local), Some(remote), Some(port), Some(vni)) => Ok(Tunnel {
                        local,
                        remote,
                        port,
                        vni,
                    }
                    .into()),
                    _ => Err(wrong(
                        "answered VXLAN without all of src_ip, dst_ip, dst_port and vni".to_owned(),
                    )),
                }
            }
            Kind::Memif
            | Kind::Vfio
            | Kind::Noop
            | Kind::Wireguard
            | Kind::Ipsec
            | Kind::Srv6
            | Kind::Vlan
            | Kind::Other(_) => {
                let kind = &self.mechanism.r#type;
                Err(wrong(format!(
                    "answered mechanism {kind}, which was not offered"
                )))
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct MechanismTranslation(Policy);

impl MechanismTranslation {
    /// The element.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(policy)
    }

    fn offer(&self, connection: &mut Connection, local: bool) -> Result<Vec<Mechanism>, Error> {
        if local {
            let context = connection.context.get_or_insert_default();
            if context.MTU == 0 {
                context.MTU = DEFAULT_MTU;
            }
            return Ok(vec![Kernel::default().mechanism()]);
        }
        let policy = &self.0;
        if policy.require_encryption
            && Payload::parse(&connection.payload) == Payload::Ip
            && !encrypted(&Kind::Vxlan)
        {
            let message = format!(
                "connection {}: payload IP would leave this node unencrypted over VXLAN, and require-encryption is \
                 set: serve {:?} on this node, or unset it",
                connection.id, connection.network_service
            );
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        let cut = policy
            .underlay_mtu
            .saturating_sub(overhead(&Kind::Vxlan, policy.tunnel_ip.is_ipv6()));
        let context = connection.context.get_or_insert_default();
        context.MTU = if context.MTU == 0 {
            cut
        } else {
            context.MTU.min(cut)
        };
        let offer = Vxlan {
            src_ip: Some(policy.tunnel_ip),
            src_port: Some(policy.port),
            mtu: Mtu::new(cut).ok(),
            ..Vxlan::default()
        };
        Ok(vec![offer.mechanism()])
    }
}

/// Asks with what was agreed; a hop to which that means nothing any more, since its namespace is
/// another one by now, is asked anew.
async fn ask(
    call: &mut Call,
    mut request: NetworkServiceRequest,
    next: &Next<Connections>,
) -> Result<Connection, Error> {
    if request.connection.mechanism.as_option().is_none() {
        return next.request(call, request).await;
    }
    match next.request(call, request.clone()).await {
        Err(refused) if refused.code == Code::InvalidArgument => {
            tracing::info!(id = request.connection.id, %refused, "negotiating anew");
            request.connection.get_or_insert_default().mechanism = MessageField::none();
            next.request(call, request).await
        }
        answer => answer,
    }
}

#[async_trait]
impl Element<Connections> for MechanismTranslation {
    fn name(&self) -> &'static str {
        "mechanismtranslation"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let target: Target = call.scratch.get().ok_or_else(|| {
            Error::new(
                Code::Internal,
                "nobody chose the next hop before `mechanismtranslation`",
            )
        })?;
        let hop = target.to_string();
        let connection = request.connection.get_or_insert_default();
        request.mechanism_preferences = self.offer(connection, target.is_local())?;
        let first = call.store.get::<Downstream>().is_none();
        // An endpoint that was restarted has another socket, and its interfaces are as they were.
        let place = match target.is_local() {
            true => connection.network_service_endpoint_name.clone(),
            false => hop.clone(),
        };
        let agreed = call.store.kept::<Far>().filter(|far| far.place == place);
        connection.mechanism = match agreed {
            Some(far) => MessageField::some(far.mechanism),
            None => MessageField::none(),
        };
        let answer = ask(call, request, &next).await?;
        let Some(mechanism) = answer.mechanism.as_option().cloned() else {
            let message = format!(
                "connection {}: {hop} accepted it without a mechanism",
                answer.id
            );
            if first && let Err(also) = next.close(call, answer).await {
                tracing::warn!(hop, %also, "closing what cannot be connected");
            }
            return Err(Error::new(Code::FailedPrecondition, message));
        };
        let far = Far { mechanism, place };
        call.scratch.put(far.clone());
        call.store.keep(far);
        Ok(answer)
    }
}
