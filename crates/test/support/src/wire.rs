//! A wire that is a table: peers by their address, calls as calls.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use nsm_api::{
    connection::{Connection, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Code, Connections, Descriptors, Error, Events, Hop, Target, Tokens, Transport,
};
use nsm_model::spiffe::SpiffeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Keys, Pipe, Watched, caller};

/// All peers of a test.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    peers: BTreeMap<String, Peer>,
    log: Vec<String>,
}

#[derive(Clone)]
struct Peer {
    id: SpiffeId,
    chain: Chain<Connections>,
    table: Option<Arc<Watched>>,
    /// Cancelled when it is cut.
    life: CancellationToken,
    up: bool,
    pipe: Arc<Pipe>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} peers)", self.state().peers.len())
    }
}

fn away(url: &str) -> Error {
    Error::new(Code::Unavailable, format!("nobody answers at {url}"))
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that serves a list; what it tells watchers is in its table.
    pub fn attach(
        &self,
        url: &str,
        id: SpiffeId,
        chain: Chain<Connections>,
        table: Option<Arc<Watched>>,
    ) {
        let peer = Peer {
            id,
            chain,
            table,
            life: CancellationToken::new(),
            up: true,
            pipe: Arc::default(),
        };
        self.state().peers.insert(url.to_owned(), peer);
    }

    /// The peer's process ends: its calls and streams fail, nobody reaches it.
    pub fn cut(&self, url: &str) {
        let mut state = self.state();
        let peer = state.peers.get_mut(url).unwrap();
        peer.up = false;
        peer.life.cancel();
    }

    /// Every stream and connection of the peer ends, and it can be reached again at once.
    pub fn reset(&self, url: &str) {
        self.cut(url);
        self.mend(url);
    }

    /// The peer is there again.
    pub fn mend(&self, url: &str) {
        let mut state = self.state();
        let peer = state.peers.get_mut(url).unwrap();
        peer.up = true;
        peer.life = CancellationToken::new();
    }

    /// The way for descriptors to and from the peer.
    #[must_use]
    pub fn pipe(&self, url: &str) -> Arc<Pipe> {
        Arc::clone(&self.state().peers.get(url).unwrap().pipe)
    }

    /// What was called since the last look: `connect`, `request` or `close`, and where.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// The wire as the process with these keys has it.
    #[must_use]
    pub fn transport(&self, keys: Arc<Keys>) -> Arc<dyn Transport> {
        Arc::new(End {
            wire: self.clone(),
            keys,
        })
    }

    fn note(&self, what: &str, url: &str) {
        self.state().log.push(format!("{what} {url}"));
    }
}

struct End {
    wire: Wire,
    keys: Arc<Keys>,
}

#[async_trait]
impl Transport for End {
    async fn connect(&self, target: &Target, _: Instant) -> Result<Arc<dyn Hop>, Error> {
        let url = target.to_string();
        let peer = self
            .wire
            .state()
            .peers
            .get(&url)
            .filter(|peer| peer.up)
            .cloned();
        let peer = peer.ok_or_else(|| away(&url))?;
        Ok(Arc::new(Link {
            wire: self.wire.clone(),
            keys: Arc::clone(&self.keys),
            url,
            peer,
        }))
    }
}

struct Link {
    wire: Wire,
    keys: Arc<Keys>,
    url: String,
    peer: Peer,
}

impl Link {
    fn call(&self, deadline: Instant) -> Result<Call, Error> {
        let token = self.keys.issue(&Call::local(deadline), &self.peer.id)?;
        let caller = caller(
            &self.keys.own_id(),
            Arc::clone(&self.peer.pipe) as Arc<dyn Descriptors>,
        );
        Ok(Call::from(caller, Some(token), deadline))
    }

    async fn while_up<T>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.peer.life.cancelled() => Err(away(&self.url)),
            answer = work => answer,
        }
    }
}

#[async_trait]
impl Hop for Link {
    fn peer(&self) -> &SpiffeId {
        &self.peer.id
    }

    fn certificate(&self) -> &[u8] {
        self.peer.id.as_str().as_bytes()
    }

    fn retire(&self) {}

    async fn request(
        &self,
        request: NetworkServiceRequest,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        self.wire.note("request", &self.url);
        let mut call = self.call(deadline)?;
        self.while_up(self.peer.chain.request(&mut call, request))
            .await
    }

    async fn close(&self, connection: Connection, deadline: Instant) -> Result<(), Error> {
        self.wire.note("close", &self.url);
        let mut call = self.call(deadline)?;
        self.while_up(self.peer.chain.close(&mut call, connection))
            .await
    }

    async fn monitor(&self, selector: MonitorScopeSelector) -> Result<Events, Error> {
        self.wire.note("monitor", &self.url);
        // As every call it carries a token.
        self.keys
            .issue(&Call::local(Instant::now()), &self.peer.id)?;
        if self.peer.life.is_cancelled() {
            return Err(away(&self.url));
        }
        let Some(table) = &self.peer.table else {
            return Err(Error::new(Code::Unimplemented, "nothing to watch here"));
        };
        let life = self.peer.life.clone();
        Ok(table
            .stream(selector)
            .take_until(life.cancelled_owned())
            .boxed())
    }

    fn descriptors(&self) -> &dyn Descriptors {
        self.peer.pipe.as_ref()
    }

    async fn lost(&self) {
        self.peer.life.cancelled().await;
    }
}
