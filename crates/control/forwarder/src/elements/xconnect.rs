//! `xconnect`: the two sides become one connection in the kernel.
//!
//! *What it does*: on the way back it knows both sides: what whoever asked accepted, and what the
//! next hop agreed to. It joins them into a plan, compares it with what stands, and has the kernel
//! make the difference. A VNI that this node cannot use is chosen again, here or at the far end.
//! *Where it stands*: after `mechanisms`, which knows the near side; before `roundrobin`.
//! *On Close*: takes the plan back while the next hops close, and reports the failures of both.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Code, Connections, Element, Error, Next, Store,
    begin::Factory,
    elements::{Held, Own},
};
use nsm_model::{
    mechanism::{Kernel as KernelMechanism, Kind, MechanismError, Vni, Vxlan},
    url::InodeUrl,
};
use nsm_plan::{KeyDigest, NetnsId, Plan, Side, cross_connect, diff};

use super::{
    mechanisms::{Near, NearSide},
    mechanismtranslation::Far,
};
use crate::{
    Kernel, KernelError, Tunnel, Vnis,
    kernel::Namespaces,
    sides::{End, kernel_side},
};

/// How often one request may find its VNI taken: with 8 million to choose from even a second time
/// is a sign of something else.
const MAX_VNI_TRIES: usize = 4;

/// A connection that has interfaces on this node.
#[derive(Debug, Clone)]
pub struct Live {
    /// Our own segment's id.
    pub id: String,
    /// What stands in the kernel.
    pub plan: Plan,
    /// The namespace of whoever asked, where that is on this node.
    pub near: Option<NetnsId>,
    /// The way to close it.
    pub factory: Factory<Connections>,
    store: Arc<Store>,
}

impl Live {
    /// What stands is gone, or not as it should be: the next request makes all of it anew.
    pub fn broken(&self) {
        self.store.put(Broken);
    }
}

/// Every connection that has interfaces on this node.
#[derive(Debug, Default)]
pub struct Lives(Mutex<BTreeMap<KeyDigest, Live>>);

impl Lives {
    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<KeyDigest, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one whose plan has this key.
    #[must_use]
    pub fn get(&self, key: KeyDigest) -> Option<Live> {
        self.table().get(&key).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Live> {
        self.table().values().cloned().collect()
    }
}

/// The plan that stands.
#[derive(Debug, Clone)]
struct Standing(Plan);

/// The plan that should stand does not.
#[derive(Debug, Clone, Copy)]
struct Broken;

/// See the module.
pub struct Xconnect {
    kernel: Arc<dyn Kernel>,
    vnis: Arc<Vnis>,
    lives: Arc<Lives>,
}

impl std::fmt::Debug for Xconnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xconnect")
    }
}

/// What became of a plan.
enum Outcome {
    Done,
    /// The far end chose a VNI that this node cannot use.
    FarVni,
}

impl Xconnect {
    /// The element.
    #[must_use]
    pub fn new(kernel: Arc<dyn Kernel>, vnis: Arc<Vnis>, lives: Arc<Lives>) -> Self {
        Self {
            kernel,
            vnis,
            lives,
        }
    }

    async fn join(
        &self,
        call: &Call,
        own: &Own,
        connection: &Connection,
    ) -> Result<Outcome, Error> {
        let digest = own.digest();
        let far = far_side(call, connection, &digest)?;
        for _ in 0..MAX_VNI_TRIES {
            let near = call.scratch.get::<Near>().ok_or_else(|| {
                Error::new(
                    Code::Internal,
                    "no `mechanisms` before `xconnect` in this role's list",
                )
            })?;
            let plan = plan(&near.side, &far, connection, &digest)?;
            match self.apply(call, &plan).await {
                Ok(()) => {
                    self.record(call, own, KeyDigest(digest), plan, &near.side)?;
                    return Ok(Outcome::Done);
                }
                Err(KernelError::VniInUse(vni)) => {
                    tracing::info!(%vni, id = own.id, "VNI in use on this node: choosing another");
                    self.vnis.lose(&own.id, vni);
                    if !self.choose_again(call, own, near, vni)? {
                        return Ok(Outcome::FarVni);
                    }
                }
                Err(error) => return Err(to_error(&own.id, error)),
            }
        }
        Err(Error::new(
            Code::ResourceExhausted,
            format!("connection {}: {MAX_VNI_TRIES} VNIs were in use", own.id),
        ))
    }

    /// Another VNI where the near side's is the one that was refused: it is ours to choose, and a
    /// caller that came with one learns the other by the answer.
    fn choose_again(
        &self,
        call: &Call,
        own: &Own,
        mut near: Near,
        refused: Vni,
    ) -> Result<bool, Error> {
        let NearSide::Vxlan { tunnel } = near.side else {
            return Ok(false);
        };
        if tunnel.vni != refused {
            return Ok(false);
        }
        self.vnis.refuse(tunnel.remote, tunnel.vni);
        let vni = self.vnis.pick(&own.id, tunnel.remote, tunnel.local)?;
        near.side = NearSide::Vxlan {
            tunnel: Tunnel { vni, ..tunnel },
        };
        call.scratch.put(near);
        Ok(true)
    }

    async fn apply(&self, call: &Call, plan: &Plan) -> Result<(), KernelError> {
        let standing = call
            .store
            .get::<Standing>()
            .map(|standing| standing.0)
            .unwrap_or_default();
        let standing = if call.store.take::<Broken>().is_some() {
            if let Err(error) = self.kernel.undo(standing).await {
                call.store.put(Broken);
                return Err(error);
            }
            call.store.take::<Standing>();
            Plan::default()
        } else {
            standing
        };
        let changes = diff(&standing, plan);
        if changes.is_empty() {
            return Ok(());
        }
        let held = Held::of(call);
        let namespaces: Namespaces = plan
            .namespaces()
            .into_iter()
            .filter_map(|id| {
                Some((
                    id,
                    held.get(InodeUrl {
                        dev: id.dev,
                        ino: id.ino,
                    })?,
                ))
            })
            .collect();
        self.kernel.apply(changes, namespaces).await
    }

    fn record(
        &self,
        call: &Call,
        own: &Own,
        key: KeyDigest,
        plan: Plan,
        near: &NearSide,
    ) -> Result<(), Error> {
        call.store.put(Standing(plan.clone()));
        let near = match near {
            NearSide::Kernel { netns, .. } => Some(NetnsId {
                dev: netns.dev,
                ino: netns.ino,
            }),
            NearSide::Vxlan { .. } => None,
        };
        let factory = Factory::of(call)?;
        let live = Live {
            id: own.id.clone(),
            plan,
            near,
            factory,
            store: Arc::clone(&call.store),
        };
        self.lives.table().insert(key, live);
        Ok(())
    }

    async fn undo(&self, call: &Call, id: &str) -> Result<(), Error> {
        let Some(Standing(plan)) = call.store.take::<Standing>() else {
            return Ok(());
        };
        self.lives.table().retain(|_, live| live.id != id);
        self.kernel
            .undo(plan)
            .await
            .map_err(|error| to_error(id, error))
    }
}

fn to_error(id: &str, error: KernelError) -> Error {
    let code = match &error {
        KernelError::NameInUse(_) => Code::AlreadyExists,
        KernelError::NotANamespace(_) => Code::InvalidArgument,
        KernelError::VniInUse(_) => Code::ResourceExhausted,
        KernelError::Refused(_) => Code::Internal,
    };
    Error::kernel(code, format!("connection {id}: {error}"))
}

fn plan(
    near: &NearSide,
    far: &Side,
    connection: &Connection,
    digest: &[u8; 16],
) -> Result<Plan, Error> {
    let near = match near {
        NearSide::Kernel { netns, name, bare } => {
            let netns = NetnsId {
                dev: netns.dev,
                ino: netns.ino,
            };
            kernel_side(connection, End::Client, netns, name.clone(), *bare, digest)?
        }
        NearSide::Vxlan { tunnel, .. } => Side::from(*tunnel),
    };
    cross_connect(KeyDigest(*digest), &near, far).map_err(|error| {
        Error::new(
            Code::FailedPrecondition,
            format!("connection {}: {error}", connection.id),
        )
    })
}

/// The side towards the endpoint, from the mechanism that the next hop answered.
fn far_side(call: &Call, connection: &Connection, digest: &[u8; 16]) -> Result<Side, Error> {
    let id = &connection.id;
    let far = call.scratch.get::<Far>().ok_or_else(|| {
        Error::new(
            Code::Internal,
            "no `mechanismtranslation` after `xconnect` in this role's list",
        )
    })?;
    let wrong = |what: String| {
        Error::new(
            Code::FailedPrecondition,
            format!("connection {id}: the next hop {what}"),
        )
    };
    let malformed = |error: MechanismError| wrong(format!("answered a mechanism with {error}"));
    match Kind::of(&far.mechanism) {
        Kind::Kernel => {
            let said = KernelMechanism::parse(&far.mechanism).map_err(malformed)?;
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
            let said = Vxlan::parse(&far.mechanism).map_err(malformed)?;
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
            let kind = &far.mechanism.r#type;
            Err(wrong(format!(
                "answered mechanism {kind}, which was not offered"
            )))
        }
    }
}

#[async_trait]
impl Element<Connections> for Xconnect {
    fn name(&self) -> &'static str {
        "xconnect"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let own = Own::of(call)?;
        let mut ask = request;
        for _ in 0..MAX_VNI_TRIES {
            let connection = next.request(call, ask.clone()).await?;
            match self.join(call, &own, &connection).await {
                Ok(Outcome::Done) => return Ok(connection),
                Ok(Outcome::FarVni) => {
                    next.close(call, connection).await?;
                    call.store.take::<Far>();
                    ask.connection.get_or_insert_default().state = State::UP.into();
                }
                Err(error) => {
                    if call.store.get::<Standing>().is_none()
                        && let Err(also) = next.close(call, connection).await
                    {
                        tracing::warn!(id = own.id, %also, "closing what could not be connected");
                    }
                    return Err(error);
                }
            }
        }
        let message = format!(
            "connection {}: the far end chose {MAX_VNI_TRIES} VNIs that are in use here",
            own.id
        );
        Err(Error::new(Code::ResourceExhausted, message))
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let id = connection.id.clone();
        let undone = self.undo(call, &id).await;
        let closed = next.close(call, connection).await;
        let errors: Vec<Error> = [undone, closed]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        Error::join(errors).map_or(Ok(()), Err)
    }
}
