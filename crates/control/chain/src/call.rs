//! One call on its way through a chain.

use std::{sync::Arc, time::SystemTime};

use nsm_api::connection::Path;
use nsm_model::spiffe::SpiffeId;
use tokio::time::Instant;

use crate::{Descriptors, Store};

/// A token as it travels beside a call (`nsm-client-token`, `nsm-client-token-expires`).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The JWT. Never in a log.
    pub jwt: String,
    /// When it expires.
    pub expires: SystemTime,
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
