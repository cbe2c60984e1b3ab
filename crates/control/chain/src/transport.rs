//! How a role reaches its next hop: the seam between elements and the wire.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use nsm_api::{
    connection::{Connection, ConnectionEvent, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
};
use nsm_model::{
    spiffe::SpiffeId,
    url::{EndpointUrl, InodeUrl},
};
use tokio::time::Instant;

use crate::Error;

/// Passes descriptors to and from one peer, beside the calls.
#[async_trait]
pub trait Descriptors: Send + Sync {
    /// Queues a copy of a descriptor for the peer, which finds it by its inode.
    ///
    /// # Errors
    /// The transport cannot carry descriptors (TCP), or its queue is full.
    fn send(&self, descriptor: BorrowedFd<'_>) -> Result<(), Error>;

    /// A copy of a descriptor that the peer sent, waiting for it if need be.
    ///
    /// # Errors
    /// None with that inode came before the deadline.
    async fn receive(&self, inode: InodeUrl, deadline: Instant) -> Result<OwnedFd, Error>;
}

/// Where a call can go.
#[derive(Clone)]
pub enum Target {
    /// An address.
    Url(EndpointUrl),
    /// A unix socket that this process may not see by name: its inode and a descriptor of it.
    Socket(InodeUrl, Arc<OwnedFd>),
}

impl Target {
    /// Whether it is on this node: a descriptor can go there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Url(url) => url.is_local(),
            Self::Socket(..) => true,
        }
    }

    /// The socket's descriptor, if it is reached by one.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Url(_) => None,
            Self::Socket(_, socket) => Some(socket.as_fd()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Socket(inode, _) => inode.fmt(f),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// What a peer tells of its connections, until it goes away.
pub type Events = BoxStream<'static, Result<ConnectionEvent, Error>>;

/// A peer that is connected.
#[async_trait]
pub trait Hop: Send + Sync {
    /// Who it is.
    fn peer(&self) -> &SpiffeId;
    /// Its leaf certificate (DER), as this connection's handshake showed it.
    fn certificate(&self) -> &[u8];
    /// Whoever connects from now on gets a connection with a handshake of its own.
    fn retire(&self);
    /// `NetworkService.Request`.
    ///
    /// # Errors
    /// What the peer answered, or that it did not.
    async fn request(
        &self,
        request: NetworkServiceRequest,
        deadline: Instant,
    ) -> Result<Connection, Error>;
    /// `NetworkService.Close`.
    ///
    /// # Errors
    /// What the peer answered, or that it did not.
    async fn close(&self, connection: Connection, deadline: Instant) -> Result<(), Error>;
    /// `MonitorConnection.MonitorConnections`.
    ///
    /// # Errors
    /// The peer refuses, or is gone.
    async fn monitor(&self, selector: MonitorScopeSelector) -> Result<Events, Error>;
    /// The way for descriptors.
    fn descriptors(&self) -> &dyn Descriptors;
    /// Ends when the peer's connection is lost.
    async fn lost(&self);
}

/// Connects to next hops: pooled, so that asking again is cheap.
#[async_trait]
pub trait Transport: Send + Sync {
    /// A connected peer.
    ///
    /// # Errors
    /// Unavailable: nobody answers there, or it does not prove who it is.
    async fn connect(&self, target: &Target, deadline: Instant) -> Result<Arc<dyn Hop>, Error>;
}
