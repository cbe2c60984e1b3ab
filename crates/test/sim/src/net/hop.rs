//! Connections over the wire: the chains' transport and hops.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use nsm_api::{
    connection::{Connection, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Code, Descriptors, Error, Events, Hop, Target, Tokens as _, Transport};
use nsm_model::spiffe::SpiffeId;
use nsm_rpc::Monitor as _;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Caller, Link, Served, told};

/// A process's end of all its wires: it keeps one connection to each address.
#[derive(Debug, Clone)]
pub struct End {
    caller: Caller,
    links: Arc<Mutex<BTreeMap<String, Arc<Link>>>>,
}

impl End {
    /// The end of a process.
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            links: Arc::default(),
        }
    }

    /// The connection to an address, made where there is none.
    pub(crate) async fn wire(&self, target: &Target, deadline: Instant) -> Result<Wire, Error> {
        let url = target.to_string();
        let known = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get(&url).filter(|link| link.stands()).cloned()
        };
        let link = match known {
            Some(link) => link,
            None => {
                let caller = &self.caller;
                let link = caller.net.dial(&caller.process, target, deadline).await?;
                let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
                links.insert(url, Arc::clone(&link));
                link
            }
        };
        Ok(Wire {
            caller: self.caller.clone(),
            link,
        })
    }
}

#[async_trait]
impl Transport for End {
    async fn connect(&self, target: &Target, deadline: Instant) -> Result<Arc<dyn Hop>, Error> {
        Ok(Arc::new(self.wire(target, deadline).await?))
    }
}

/// One connection, with the tokens to call over it.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) caller: Caller,
    pub(crate) link: Arc<Link>,
}

impl Wire {
    pub(crate) fn call_of(&self, deadline: Instant) -> Result<Call, Error> {
        let token = self
            .caller
            .keys
            .issue(&Call::local(deadline), &self.link.peer)?;
        let id = self.caller.keys.own_id();
        let caller = nsm_chain::Caller {
            certificate: id.as_str().as_bytes().into(),
            id,
            descriptors: Arc::clone(&self.link.pipe) as Arc<dyn Descriptors>,
        };
        Ok(Call::from(caller, Some(token), deadline))
    }

    /// One call: the way there, the work in the other process, the way back.
    pub(crate) async fn call<T, W, R>(
        &self,
        what: &str,
        about: &str,
        deadline: Instant,
        work: W,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Arc<Served>, Call) -> R + Send + 'static,
        R: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (net, link) = (&self.caller.net, &self.link);
        net.note(what, link, about);
        let call = self.call_of(deadline)?;
        let go = async {
            net.carry(link).await?;
            let (mut send, receive) = oneshot::channel();
            let served = link.served()?;
            link.to.spawn(async move {
                let answer = tokio::select! {
                    biased;
                    // Whoever asked is gone, or has given up.
                    () = send.closed() => return,
                    answer = work(served, call) => answer,
                };
                let _gave_up = send.send(answer);
            });
            let answer = receive.await.map_err(|_| link.away())?;
            net.carry(link).await?;
            answer.map_err(told)
        };
        tokio::select! {
            biased;
            () = link.lost() => Err(link.away()),
            answer = timeout_at(deadline, go) => answer.unwrap_or_else(|_| {
                let message = format!("{what} at {}: no answer in time", link.url);
                Err(Error::new(Code::DeadlineExceeded, message))
            }),
        }
    }
}

fn serves_no(what: &str) -> Error {
    Error::new(Code::Unimplemented, format!("no {what} here"))
}

#[async_trait]
impl Hop for Wire {
    fn peer(&self) -> &SpiffeId {
        &self.link.peer
    }

    fn certificate(&self) -> &[u8] {
        self.link.peer.as_str().as_bytes()
    }

    fn retire(&self) {}

    async fn request(
        &self,
        request: NetworkServiceRequest,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let id = request.connection.id.clone();
        self.call("request", &id, deadline, |served, mut call| async move {
            match &served.connections {
                Some(chain) => chain.request(&mut call, request).await,
                None => Err(serves_no("connections")),
            }
        })
        .await
    }

    async fn close(&self, connection: Connection, deadline: Instant) -> Result<(), Error> {
        let id = connection.id.clone();
        self.call("close", &id, deadline, |served, mut call| async move {
            match &served.connections {
                Some(chain) => chain.close(&mut call, connection).await,
                None => Err(serves_no("connections")),
            }
        })
        .await
    }

    async fn monitor(&self, selector: MonitorScopeSelector) -> Result<Events, Error> {
        let deadline = Instant::now() + super::GIVEN_UP;
        let events = self
            .call("monitor", "", deadline, |served, call| async move {
                match &served.monitor {
                    Some(monitor) => monitor.watch(call, selector).await,
                    None => Err(serves_no("monitor")),
                }
            })
            .await?;
        Ok(delayed(self.clone(), events))
    }

    fn descriptors(&self) -> &dyn Descriptors {
        self.link.pipe.as_ref()
    }

    async fn lost(&self) {
        self.link.lost().await;
    }
}

/// A stream of the other process as it arrives here: late, and no longer than the connection.
pub(crate) fn delayed<T: Send + 'static>(
    wire: Wire,
    events: nsm_rpc::Answers<T>,
) -> nsm_rpc::Answers<T> {
    let arrived = stream::unfold(Some((wire, events)), |state| async {
        let (wire, mut events) = state?;
        let next = async {
            let event = events.next().await?;
            Some(match wire.caller.net.carry(&wire.link).await {
                Ok(()) => event.map_err(told),
                Err(error) => Err(error),
            })
        };
        let next = tokio::select! {
            biased;
            () = wire.link.lost() => Some(Err(wire.link.away())),
            next = next => next,
        };
        match next? {
            Ok(event) => Some((Ok(event), Some((wire, events)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    arrived.boxed()
}
