//! `xconnect`: the two sides become one connection in the kernel.
//!
//! *What it does*: on the way back it knows both sides: what whoever asked accepted, and what the
//! next hop agreed to. It joins them into a plan, compares it with what stands, and has the kernel
//! make the difference. A VNI that this node cannot use is chosen again, here or at the far end.
//! *Where it stands*: after `mechanisms`, which knows the near side; before `roundrobin`.
//! *On Close*: takes the plan back while the next hops close, and reports the failures of both.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Code, Connections, Element, Error, Next,
    begin::Factory,
    elements::{Held, Own},
};
use nsm_model::{mechanism::Vni, path, url::InodeUrl};
use nsm_plan::{KeyDigest, NetnsId, Plan, cross_connect, diff};

use super::{
    mechanisms::{Near, NearSide},
    mechanismtranslation::Far,
};
use crate::{
    Kernel, KernelError, Lives, Tunnel, Vnis,
    kernel::Namespaces,
    lives::{Broken, Live},
};

/// How often one request may find its VNI taken: with 8 million to choose from even a second time
/// is a sign of something else.
const MAX_VNI_TRIES: usize = 4;

/// The plan that stands.
#[derive(Debug, Clone)]
struct Standing(Plan);

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
        let far = call.scratch.get::<Far>().ok_or_else(|| {
            let message = "no `mechanismtranslation` after `xconnect` in this role's list";
            Error::new(Code::Internal, message)
        })?;
        let far = far.side(connection, &digest)?;
        for _ in 0..MAX_VNI_TRIES {
            let near = call.scratch.get::<Near>().ok_or_else(|| {
                Error::new(
                    Code::Internal,
                    "no `mechanisms` before `xconnect` in this role's list",
                )
            })?;
            let near_side = near.side.side(connection, &digest)?;
            let plan = cross_connect(KeyDigest(digest), &near_side, &far).map_err(|error| {
                let message = format!("connection {}: {error}", own.id);
                Error::new(Code::FailedPrecondition, message)
            })?;
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
        self.kernel.apply(changes, namespaces).await.map(drop)
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
        self.lives.insert(key, live);
        Ok(())
    }

    async fn undo(&self, call: &Call, id: &str) -> Result<(), Error> {
        let Some(Standing(plan)) = call.store.take::<Standing>() else {
            return Ok(());
        };
        self.lives.remove(id);
        self.kernel
            .undo(plan)
            .await
            .map_err(|error| to_error(id, error))
    }
}

/// Says in our own segment what each side is (sdk `common/mechanisms`).
fn named(call: &Call, mut connection: Connection) -> Connection {
    let near = call.scratch.get::<Near>().map(|near| near.side.to_string());
    let far = call.scratch.get::<Far>().map(|far| far.to_string());
    if let Some(segment) = path::own_mut(connection.path.get_or_insert_default()) {
        for (side, what) in [("client_interface", near), ("server_interface", far)] {
            segment
                .metrics
                .extend(what.map(|what| (side.to_owned(), what)));
        }
    }
    connection
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
                Ok(Outcome::Done) => return Ok(named(call, connection)),
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
