//! A next hop that is watched and asked for nothing.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, MonitorScopeSelector},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Code, Descriptors, Error, Events, Hop, Target, Transport};
use nsm_model::spiffe::SpiffeId;
use tokio::time::Instant;

use crate::Pipe;

/// See the module. It is found at every target, and is never lost.
#[derive(Clone)]
pub struct Watchable {
    peer: SpiffeId,
    pipe: Arc<Pipe>,
    streams: Arc<dyn Fn() -> Events + Send + Sync>,
}

impl fmt::Debug for Watchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watchable({})", self.peer)
    }
}

impl Watchable {
    /// A hop with this name; `streams` makes what each watcher is told.
    #[must_use]
    pub fn new(peer: SpiffeId, streams: impl Fn() -> Events + Send + Sync + 'static) -> Self {
        Self {
            peer,
            pipe: Arc::default(),
            streams: Arc::new(streams),
        }
    }
}

#[async_trait]
impl Transport for Watchable {
    async fn connect(&self, _: &Target, _: Instant) -> Result<Arc<dyn Hop>, Error> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Hop for Watchable {
    fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    fn certificate(&self) -> &[u8] {
        &[]
    }

    fn retire(&self) {}

    async fn request(&self, _: NetworkServiceRequest, _: Instant) -> Result<Connection, Error> {
        Err(Error::new(Code::Unimplemented, "nobody asks"))
    }

    async fn close(&self, _: Connection, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    async fn monitor(&self, _: MonitorScopeSelector) -> Result<Events, Error> {
        Ok((self.streams)())
    }

    fn descriptors(&self) -> &dyn Descriptors {
        self.pipe.as_ref()
    }

    async fn lost(&self) {
        std::future::pending().await
    }
}
