//! One call on its way through a chain.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_api::connection::Path;
use nsm_model::{ids::ConnectionKey, spiffe::SpiffeId};
use tokio::time::Instant;

use crate::{Code, Descriptors, Error, Store};

/// A token as it travels beside a call (`nsm-client-token`, `nsm-client-token-expires`).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The JWT. Never in a log.
    pub jwt: String,
    /// When it expires.
    pub expires: SystemTime,
    /// What was left of its life when it was sent, as its sender's clock had it; the Go
    /// implementation does not say.
    pub left: Option<Duration>,
}

impl Token {
    /// What is left of its life: by its sender's clock where that said so, so that nothing depends
    /// on two clocks agreeing.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Duration {
        let by_ours = || self.expires.duration_since(now).unwrap_or_default();
        self.left.unwrap_or_else(by_ours)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(expires {:?})", self.expires)
    }
}

/// Who calls: what the transport has proved.
#[derive(Clone)]
pub struct Caller {
    /// Its SPIFFE ID, from its certificate.
    pub id: SpiffeId,
    /// Its leaf certificate, DER.
    pub certificate: Arc<[u8]>,
    /// The way for descriptors from and to it.
    pub descriptors: Arc<dyn Descriptors>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.id)
    }
}

/// Which connection a call is about, in this hop's own words; `updatepath` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Who made the connection, and its id there.
    pub key: ConnectionKey,
    /// Our own segment's id.
    pub id: String,
    /// Our own segment's place in the path.
    pub index: u32,
}

impl Own {
    /// What `updatepath` said of the call in hand.
    ///
    /// # Errors
    /// A list without `updatepath` before the element that asks.
    pub fn of(call: &Call) -> Result<Self, Error> {
        call.own.clone().ok_or_else(|| {
            let message = "this role's list has no `updatepath` before the element that needs it";
            Error::new(Code::Internal, message)
        })
    }

    /// Tells this hop's part of the connection from every other one, on this hop or another.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        ConnectionKey {
            owner: self.key.owner.clone(),
            id: self.id.clone(),
        }
        .digest()
    }
}

/// One call on its way through a chain: what comes with a request beside its message.
#[derive(Debug)]
pub struct Call {
    /// Who calls; absent where the call begins in this process.
    pub caller: Option<Caller>,
    /// The caller's token.
    pub token: Option<Token>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The path of a registry call (connections carry theirs in the message).
    pub path: Path,
    /// Which connection it is about.
    pub own: Option<Own>,
    /// What elements remember of this item for as long as it exists.
    pub store: Arc<Store>,
    /// What elements tell one another during this call alone.
    pub scratch: Arc<Store>,
}

impl Call {
    /// A call that begins in this process.
    #[must_use]
    pub fn local(deadline: Instant) -> Self {
        Self {
            caller: None,
            token: None,
            deadline,
            path: Path::default(),
            own: None,
            store: Arc::default(),
            scratch: Arc::default(),
        }
    }

    /// A call that a peer made.
    #[must_use]
    pub fn from(caller: Caller, token: Option<Token>, deadline: Instant) -> Self {
        Self {
            caller: Some(caller),
            token,
            ..Self::local(deadline)
        }
    }
}
