//! Whether the packets of a connection flow, whatever its control plane says.

use std::time::Duration;

use async_trait::async_trait;
use nsm_api::connection::Connection;

/// What is known of a connection's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They come from the far end.
    Flows,
    /// The far end used to answer, and does not; or the own interface is gone.
    Silent,
    /// Nobody can tell: the far end never answered, or there is nothing to ask it with.
    Unknown,
}

/// Asks connections' data paths, in the own namespace: the seam with implementations for a kernel
/// and for a model of one.
#[async_trait]
pub trait Liveness: Send + Sync {
    /// How often each connection is looked at; `None`: only when its control plane is in doubt.
    fn every(&self) -> Option<Duration>;

    /// The slow look: packets that came since the look before prove it, and cost nothing.
    async fn look(&self, connection: &Connection) -> Flow;

    /// Asked in doubt: only what comes from now on proves anything.
    async fn ask(&self, connection: &Connection) -> Flow;

    /// The connection with this id has ended.
    fn forget(&self, id: &str);
}

/// Knows nothing of any connection: heals then follow what the control plane knows alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blind;

#[async_trait]
impl Liveness for Blind {
    fn every(&self) -> Option<Duration> {
        None
    }

    async fn look(&self, _: &Connection) -> Flow {
        Flow::Unknown
    }

    async fn ask(&self, _: &Connection) -> Flow {
        Flow::Unknown
    }

    fn forget(&self, _: &str) {}
}
