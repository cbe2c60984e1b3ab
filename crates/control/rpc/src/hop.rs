//! The chain's seams to the wire: its transport, hops, descriptors, tokens and monitor table.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, ConnectionEvent, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Code, Error, Expected, Target, Token, elements::Interest};
use nsm_identity::token::{Claims, TokenError};
use nsm_model::{spiffe::SpiffeId, url::InodeUrl};
use nsm_policy::{custom::Custom, denial::Kind, standard::Signatures};
use tokio::time::Instant;

use crate::{
    client,
    fdtable::Descriptors,
    link::PeerHandle,
    monitor::Connections,
    peer::Peer,
    pool::{DIAL_TIMEOUT, Pool},
    registered,
    tokens::TokenSource,
};

/// How long a peer may take to begin a monitor stream.
const MONITOR_START: Duration = Duration::from_secs(5);

/// Connects a chain to next hops through a pool.
#[derive(Debug, Clone)]
pub struct Transport {
    pool: Pool,
    tokens: TokenSource,
    dial_timeout: Duration,
    expected: Option<Expected>,
}

impl Transport {
    /// Connects through `pool`; calls carry tokens of `tokens`.
    #[must_use]
    pub fn new(pool: Pool, tokens: TokenSource) -> Self {
        Self {
            pool,
            tokens,
            dial_timeout: DIAL_TIMEOUT,
            expected: None,
        }
    }

    /// The longest that connecting to a peer may take ([`DIAL_TIMEOUT`] is the most).
    #[must_use]
    pub fn with_dial_timeout(self, dial_timeout: Duration) -> Self {
        Self {
            dial_timeout,
            ..self
        }
    }

    /// The same way, to peers that are whom `expected` says: nothing is sent to anybody else.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self {
            expected: Some(expected),
            ..self
        }
    }

    /// A connected peer, with the functions of [`client`] at hand.
    ///
    /// # Errors
    /// As [`Pool::connect`].
    pub async fn hop(&self, target: &Target, deadline: Instant) -> Result<Hop, Error> {
        let deadline = deadline.min(Instant::now() + self.dial_timeout);
        let peer = match target {
            Target::Url(url) => self.pool.connect(url, None, deadline).await?,
            Target::Socket(_, socket) => {
                self.pool
                    .connect_fd(Arc::clone(socket), None, deadline)
                    .await?
            }
        };
        if let Some(expected) = &self.expected {
            expected.check(&peer.peer().id)?;
        }
        Ok(Hop {
            peer,
            tokens: self.tokens.clone(),
        })
    }
}

#[async_trait]
impl nsm_chain::Transport for Transport {
    async fn connect(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<Arc<dyn nsm_chain::Hop>, Error> {
        Ok(Arc::new(self.hop(target, deadline).await?))
    }
}

/// A connected peer with the tokens to call it.
#[derive(Debug, Clone)]
pub struct Hop {
    /// The connection.
    pub peer: PeerHandle,
    /// Our tokens.
    pub tokens: TokenSource,
}

impl Hop {
    /// Whether an answer was refused for a certificate that the peer has renewed since: asked over
    /// a new connection it may be proved.
    #[must_use]
    pub fn has_renewed<T>(&self, answer: &Result<T, Error>) -> bool {
        let refused = answer.as_ref().err().map(|error| error.code);
        refused == Some(Code::Unauthenticated) && self.peer.is_retired()
    }

    /// The answer of a peer that was asked anew; one that is not proved now either is a denial.
    ///
    /// # Errors
    /// The answer's own.
    pub fn at_last<T>(&self, name: &str, answer: Result<T, Error>) -> Result<T, Error> {
        if self.has_renewed(&answer)
            && let Err(error) = &answer
        {
            registered::denied(Kind::Answer, &self.peer, name, &error.message);
        }
        answer
    }
}

#[async_trait]
impl nsm_chain::Hop for Hop {
    fn peer(&self) -> &SpiffeId {
        &self.peer.peer().id
    }

    fn certificate(&self) -> &[u8] {
        &self.peer.peer().certificate
    }

    fn retire(&self) {
        self.peer.retire();
    }

    async fn request(
        &self,
        request: NetworkServiceRequest,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        client::request(&self.peer, &self.tokens, request, deadline).await
    }

    async fn close(&self, connection: Connection, deadline: Instant) -> Result<(), Error> {
        client::close(&self.peer, &self.tokens, connection, deadline).await
    }

    async fn monitor(&self, selector: MonitorScopeSelector) -> Result<nsm_chain::Events, Error> {
        let deadline = Instant::now() + MONITOR_START;
        let events: client::Answer<ConnectionEvent> =
            client::monitor(&self.peer, &self.tokens, selector, deadline).await?;
        Ok(Box::pin(events))
    }

    fn descriptors(&self) -> &dyn nsm_chain::Descriptors {
        self.peer.descriptors()
    }

    async fn lost(&self) {
        self.peer.closed().await;
    }
}

#[async_trait]
impl nsm_chain::Descriptors for Descriptors {
    fn send(&self, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        Ok(Self::send(self, &descriptor).map(drop)?)
    }

    async fn receive(&self, inode: InodeUrl, deadline: Instant) -> Result<OwnedFd, Error> {
        Ok(self.recv(inode, deadline).await?)
    }
}

impl Signatures for TokenSource {
    fn verify(&self, jwt: &str, certificate: &[u8]) -> Result<Claims, TokenError> {
        Self::verify(self, jwt, certificate)
    }
}

impl nsm_chain::Tokens for TokenSource {
    fn own_id(&self) -> SpiffeId {
        self.source().current().id().clone()
    }

    fn issue(&self, call: &Call, audience: &SpiffeId) -> Result<Token, Error> {
        let now = SystemTime::now();
        let shown = Peer::of(call).and_then(|peer| peer.signer(now));
        let signer = shown.unwrap_or_else(|| self.source().current());
        // The caller's own token in the path says when its certificate ends.
        self.token_of(&signer, audience, signer.not_after(), now)
    }

    fn policies(&self) -> Option<&Custom> {
        Some(Self::policies(self))
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl nsm_chain::elements::Table for Connections {
    fn update(&self, connection: Connection) {
        Self::update(self, connection);
    }

    fn change(&self, id: &str, change: &mut dyn FnMut(&mut Connection) -> bool) {
        Self::change(self, id, change);
    }

    fn show(&self, id: &str, to: Vec<SpiffeId>) {
        Self::show(self, id, to);
    }

    fn sees(&self, id: &str, who: &SpiffeId) -> bool {
        Self::sees(self, id, who)
    }

    fn interest(&self, id: &str, who: &SpiffeId) -> Interest {
        Self::interest(self, id, who)
    }

    fn delete(&self, id: &str) {
        Self::delete(self, id);
    }

    fn get(&self, id: &str) -> Option<Connection> {
        Self::get(self, id).map(|found| Connection::clone(&found))
    }

    fn served_by(&self, endpoint: &str) -> Vec<Connection> {
        let all = self.list().into_iter();
        all.filter(|one| one.network_service_endpoint_name == endpoint)
            .map(|one| Connection::clone(&one))
            .collect()
    }
}
