//! `xconnect`: the two sides become one connection in the kernel.
//!
//! *What it does*: on the way back it knows both sides: what whoever asked accepted, and what the
//! next hop agreed to. It joins them into a plan, compares it with what stands, and has the kernel
//! make the difference. A VNI that this node cannot use is chosen again, here or at the far end.
//! *Where it stands*: after `mechanisms`, which knows the near side; before `roundrobin`.
//! *After a restart*: takes over what the kernel holds of the plan in the journal.
//! *On Close*: takes the plan back, for a restart as well, before the next hops close, and reports
//! the failures of both.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Code, Connections, Element, Error, Kept, Next, Record, Tasks,
    begin::{Factory, Noting},
    elements::{Fallen, Held, Own},
};
use nsm_kernel::NetnsRef;
use nsm_model::{mechanism::Vni, path, url::InodeUrl};
use nsm_plan::{KeyDigest, NetnsId, Plan, cross_connect, diff, succeed};
use serde::{Deserialize, Serialize};

use super::{
    mechanisms::{Near, NearSide},
    mechanismtranslation::Far,
};
use crate::{
    Adopted, Kernel, KernelError, Lives, Tunnel, Vnis,
    kernel::Namespaces,
    leftover,
    lives::{Broken, Live},
};

/// How often one request may find its VNI taken: with 8 million to choose from even a second time
/// is a sign of something else.
const MAX_VNI_TRIES: usize = 4;

/// The plan that stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Standing {
    plan: Plan,
    /// Its namespaces, as they are found again after a restart.
    places: Vec<NetnsRef>,
    /// The namespace of whoever asked, where that is on this node.
    near: Option<NetnsId>,
}

impl Kept for Standing {
    const NAME: &'static str = "xconnect";
}

/// See the module.
pub struct Xconnect {
    kernel: Arc<dyn Kernel>,
    vnis: Arc<Vnis>,
    lives: Arc<Lives>,
    tasks: Tasks,
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
    pub fn new(kernel: Arc<dyn Kernel>, vnis: Arc<Vnis>, lives: Arc<Lives>, tasks: Tasks) -> Self {
        Self {
            kernel,
            vnis,
            lives,
            tasks,
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
            let standing = call.store.kept::<Standing>().unwrap_or_default();
            let plan = succeed(&standing.plan, plan);
            match self.apply(call, &plan).await {
                Ok(places) => {
                    let standing = Standing {
                        plan,
                        places,
                        near: near.side.namespace(),
                    };
                    self.record(call, own, standing)?;
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

    /// Answers with every namespace of the plan, as it is found again.
    async fn apply(&self, call: &Call, plan: &Plan) -> Result<Vec<NetnsRef>, KernelError> {
        let mut standing = call.store.kept::<Standing>().unwrap_or_default();
        if call.store.take::<Broken>().is_some() {
            if let Err(error) = self.kernel.undo(standing.plan).await {
                call.store.put(Broken);
                return Err(error);
            }
            call.store.take_kept::<Standing>();
            standing = Standing::default();
        }
        let changes = diff(&standing.plan, plan);
        if changes.is_empty() {
            return Ok(standing.places);
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
        let mut places = self.kernel.apply(changes, namespaces).await?;
        let wanted = plan.namespaces();
        let before = standing.places.into_iter();
        let known: Vec<NetnsId> = places.iter().map(|place| place.id).collect();
        places.extend(
            before.filter(|place| wanted.contains(&place.id) && !known.contains(&place.id)),
        );
        Ok(places)
    }

    fn record(&self, call: &Call, own: &Own, standing: Standing) -> Result<(), Error> {
        let live = Live {
            id: own.id.clone(),
            plan: standing.plan.clone(),
            near: standing.near,
            factory: Factory::of(call)?,
            store: Arc::clone(&call.store),
        };
        call.store.keep(standing);
        self.lives.insert(KeyDigest(own.digest()), live);
        Ok(())
    }

    async fn undo(&self, call: &Call, id: &str) -> Result<(), Error> {
        let Some(standing) = call.store.take_kept::<Standing>() else {
            return Ok(());
        };
        self.lives.remove(id);
        let undone = self.kernel.undo(standing.plan.clone()).await;
        if undone.is_err() {
            // Nobody else knows of it any more.
            let (kernel, lives) = (Arc::clone(&self.kernel), Arc::clone(&self.lives));
            let later = leftover::take_back(id.to_owned(), standing.plan, kernel, lives);
            self.tasks.spawn(later);
        }
        undone.map_err(|error| to_error(id, error))
    }

    /// What the kernel still holds of a connection after our restart.
    async fn adopt(&self, call: &mut Call, own: &Own, standing: Standing) -> Result<(), Error> {
        let Standing { plan, places, near } = &standing;
        let (found, near) = (self.kernel.adopt(plan, places).await, *near);
        self.record(call, own, standing)?;
        let id = &own.id;
        match found {
            Ok(Adopted::AsItWas) => {}
            Ok(Adopted::Repaired(what)) => {
                tracing::warn!(id, ?what, "changed while we were away, put right");
            }
            Ok(Adopted::Gone(gone)) if near.is_some_and(|near| gone.contains(&near)) => {
                let message = format!("connection {id}: its client's namespace is gone");
                return Err(Error::new(Code::NotFound, message));
            }
            Ok(Adopted::Gone(_)) => {
                tracing::info!(id, "the far namespace of this connection is gone");
                call.store.put(Broken);
                call.scratch.put(Fallen);
            }
            Err(error) => {
                // Nothing is known of it: its packets may flow. Events and looks tell more.
                tracing::error!(id, %error, "could not be looked at in the kernel; it is left as it is");
            }
        }
        Ok(())
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
                    call.store.take_kept::<Far>();
                    ask.connection.get_or_insert_default().state = State::UP.into();
                }
                Err(error) => {
                    if call.store.kept::<Standing>().is_none()
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
        // The endpoint gives the addresses away now: who is killed must not make the links again.
        Noting::note(call).await;
        let closed = next.close(call, connection).await;
        let errors: Vec<Error> = [undone, closed]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<Connections>,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        next.restore(call, record).await?;
        let own = Own::of(call)?;
        match call.store.kept::<Standing>() {
            Some(standing) => self.adopt(call, &own, standing).await,
            None => Ok(()),
        }
    }
}
