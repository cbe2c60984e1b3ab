//! `connect`: the call goes to the next hop.
//!
//! *What it does*: sdk `pkg/networkservice/common/{clienturl,dial,connect,mechanisms/sendfd}` in
//! one: reaches the hop that the elements before it chose, over a pooled connection, sends the
//! descriptors that the mechanisms speak of, and takes the ones that the answer speaks of. Who
//! answers there must be whom those elements expect ([`Expected`]), or nothing is sent to it, and
//! an answer that it cannot prove is refused ([`Answers`]).
//! When the connection moved to another hop, the one before is closed behind it, as soon as the
//! request is done: until then packets go that way, and what is told of it is still believed.
//! *Where it stands*: last.
//! *On Close*: closes at the hop that the connection went to, and at those that it has left and
//! that were not told yet; one that is away is told later.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_model::path;
use tokio::time::Instant;

use super::{
    answers::{self, Answers},
    recvfd::{Held, arrival, inode, inodes},
};
use crate::{
    Blame, Call, Code, Connections, Element, Error, Expected, Hop, Kind as _, Next, Own, Record,
    Target, Tasks, Transport,
    begin::Factory,
    behind::{Behind, Left},
    downstream::{Beyond, Downstream, Resolve},
    follow::Follower,
    owed::{Known, Owed},
};

/// How long closing at a hop that the connection left may take: nobody waits for it.
const CLOSE_BEHIND: Duration = Duration::from_secs(5);
/// What was sent to that hop before packets went another way arrives, and its answer, also where
/// the program that answers waits for a processor: many clients move at once.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Connect {
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    answers: Option<Answers>,
    owed: Owed,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connect")
    }
}

impl Connect {
    /// The element; `tasks` owns the closes at hops that connections left.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, tasks: Tasks) -> Self {
        Self {
            owed: Owed::new(Arc::clone(&transport), tasks.clone()),
            transport,
            tasks,
            answers: None,
        }
    }

    /// The same; what is owed is shared with the elements before.
    #[must_use]
    pub fn owing(self, owed: Owed) -> Self {
        Self { owed, ..self }
    }

    /// The same, with its answers held to account: every role's.
    #[must_use]
    pub fn authorized(self, answers: Answers) -> Self {
        Self {
            answers: Some(answers),
            ..self
        }
    }

    async fn reach(&self, next: &Downstream, deadline: Instant) -> Result<Arc<dyn Hop>, Error> {
        let reached = next.reach(self.transport.as_ref(), deadline).await;
        reached.map_err(|error| Error {
            blame: Blame::NextHop,
            ..error
        })
    }

    /// The answer is its hop's own, and what it speaks of is here.
    async fn accept(
        &self,
        call: &Call,
        now: &Downstream,
        hop: Arc<dyn Hop>,
    ) -> Result<Arc<dyn Hop>, Error> {
        let proved = self.prove(call, now, Arc::clone(&hop)).await?;
        take_descriptor(call, hop.as_ref(), &now.connection).await?;
        Ok(proved)
    }

    /// The hop with the certificate that proves the answer. A peer whose SVID was renewed since we
    /// connected signs with a key that this connection has not seen: a new one shows it.
    async fn prove(
        &self,
        call: &Call,
        now: &Downstream,
        hop: Arc<dyn Hop>,
    ) -> Result<Arc<dyn Hop>, Error> {
        let Some(answers) = &self.answers else {
            return Ok(hop);
        };
        let refused = match answers.check(call, hop.as_ref(), &now.connection) {
            Ok(()) => return Ok(hop),
            Err(refused) => refused,
        };
        if refused.is_signature() {
            hop.retire();
            let again = self.reach(now, call.deadline).await?;
            let proved = answers.check(call, again.as_ref(), &now.connection);
            if again.peer() == hop.peer() && proved.is_ok() {
                return Ok(again);
            }
        }
        Err(answers::refuse(hop.as_ref(), &now.connection, &refused))
    }

    /// Closes there; a hop that is away is owed it.
    async fn leave(
        &self,
        id: &str,
        left: Downstream,
        known: Known,
        deadline: Instant,
    ) -> Result<(), Error> {
        let closed = async {
            let hop = self.reach(&left, deadline).await?;
            hop.close(left.connection.clone(), deadline).await
        };
        closed.await.map_err(|error| {
            tracing::info!(id, hop = left.hop(), %error, "closing at a next hop");
            self.owed.owe(id, left, known, error)
        })
    }

    fn close_behind(&self, call: &Call, id: &str, left: Downstream) {
        let factory = Factory::<Connections>::of(call).ok();
        let left = Behind::leave(&call.store, left);
        let (connect, id) = (self.clone(), id.to_owned());
        self.tasks.finish(async move {
            if let Some(factory) = factory {
                // Whoever still works on it then has had the time of a close.
                let _late = factory.settled(Instant::now() + CLOSE_BEHIND).await;
            }
            tokio::time::sleep(UNDER_WAY).await;
            let mut left = left.lock().await;
            if let Some(left) = left.take() {
                connect.owed.soon(&id, left).await;
            }
        });
    }

    /// Closes at every hop that the connection has left and that was not told yet. That an endpoint
    /// was away keeps nobody's close from being whole: no link is its.
    async fn leave_behind(&self, id: &str, behind: Vec<Left>, deadline: Instant) -> Vec<Error> {
        let mut errors = Vec::new();
        for left in behind {
            let mut left = left.lock().await;
            if let Some(left) = left.take() {
                let endpoint = left.is_endpoint();
                let closed = self.leave(id, left, Known::Asked, deadline).await;
                errors.extend(closed.err().filter(|_| !endpoint));
            }
        }
        errors
    }
}

fn send_descriptors(
    call: &Call,
    hop: &dyn Hop,
    request: &NetworkServiceRequest,
) -> Result<(), Error> {
    let held = Held::of(call);
    for inode in inodes(request) {
        if let Some(descriptor) = held.get(inode) {
            hop.descriptors().send(OwnedFd::as_fd(&descriptor))?;
        }
    }
    Ok(())
}

/// The answer may speak of a namespace that the request did not: the endpoint's own.
async fn take_descriptor(call: &Call, hop: &dyn Hop, answer: &Connection) -> Result<(), Error> {
    let Some(inode) = answer.mechanism.as_option().and_then(inode) else {
        return Ok(());
    };
    if Held::of(call).get(inode).is_none() {
        let descriptor = hop.descriptors().receive(inode, arrival(call)).await?;
        Held::hold(call, inode, descriptor);
    }
    Ok(())
}

#[async_trait]
impl Element<Connections> for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let target: Target = call.scratch.get().ok_or_else(|| {
            Error::new(
                Code::Internal,
                "nobody before `connect` in this role's list chose the next hop",
            )
        })?;
        let mut now = Downstream::at(target, call.scratch.get::<Expected>(), call.scratch.get());
        let hop = self.reach(&now, call.deadline).await?;
        let id = request.connection.id.clone();
        let _asking = self.owed.asking(&id, hop.peer()).await;
        if let Some(follower) = call.scratch.get::<Follower>() {
            follower.asks(&now, &hop);
        }
        send_descriptors(call, hop.as_ref(), &request)?;
        let asked = now.clone().asked_for(&request.connection);
        // One that was granted before may be carrying packets there for all we know.
        let granted = path::next(&request.connection.path).is_some();
        let answer = match hop.request(request, call.deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                // It may have done what was asked, and nobody would know. A client that asks for
                // the first time goes on, perhaps for what it had before its restart, or closes.
                let known = call.store.get::<Downstream>().is_some();
                if known || (call.caller.is_some() && !granted) {
                    self.owed.lost(&id, asked, &error);
                }
                return Err(error);
            }
        };
        now.connection = answer.clone();
        let before = call.store.get::<Downstream>();
        let moved = before.as_ref().map(Downstream::hop) != Some(now.hop());
        let proved = match self.accept(call, &now, hop).await {
            Ok(proved) => proved,
            Err(error) => {
                if moved {
                    self.close_behind(call, &id, now);
                }
                return Err(error);
            }
        };
        if let Some(left) = before.filter(|_| moved) {
            self.close_behind(call, &id, left);
        }
        call.store.keep(Beyond::of(&now));
        call.store.put(now);
        self.owed.stands(&id, &call.store);
        call.scratch.put(proved);
        Ok(answer)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        _next: Next<Connections>,
    ) -> Result<(), Error> {
        let id = connection.id.clone();
        self.owed.ended(&id);
        // A hop that was restarted knows where to go from the elements before, if at all.
        call.store.take_kept::<Beyond>();
        let left = match call.store.take::<Downstream>() {
            Some(mut known) => {
                Connections::dress(&mut known.connection, &connection);
                Some((known, Known::Asked))
            }
            None => Downstream::told(call).map(|mut left| {
                left.connection = connection;
                (left, Known::Hearsay)
            }),
        };
        // One that is asked for just now may still need the way that it leaves.
        let ends = call.scratch.get::<Arc<dyn Hop>>().is_none();
        let deadline = call.deadline;
        let through = left.as_ref().map(|(left, _)| left.clone());
        let here = async {
            match left {
                Some((left, known)) => self.leave(&id, left, known, deadline).await,
                None => Ok(()),
            }
        };
        let elsewhere = async {
            if !ends {
                return Vec::new();
            }
            let mut errors = self.owed.settle(&id, through.as_ref(), deadline).await;
            let behind = Behind::take(&call.store);
            errors.extend(self.leave_behind(&id, behind, deadline).await);
            errors
        };
        let (elsewhere, here) = tokio::join!(elsewhere, here);
        let errors = here.err().into_iter().chain(elsewhere).collect();
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn restore(
        &self,
        call: &mut Call,
        _record: &Record<Connections>,
        _next: Next<Connections>,
    ) -> Result<(), Error> {
        let beyond = call.store.kept::<Beyond>();
        if let (Some(beyond), Some(resolve)) = (beyond, call.scratch.get::<Resolve>()) {
            call.store.put(beyond.found_by(resolve));
            let own = Own::of(call)?;
            self.owed.stands(&own.id, &call.store);
        }
        Ok(())
    }
}
