//! The Workload API on a unix socket.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::net::UnixListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;

use super::{CaError, EntrySource, Node, incoming, workload::Api};
use crate::{
    TaskGuard,
    sockfile::{Access, SocketFile},
    workload::server::SpiffeWorkloadAPIServer,
};

/// SPIRE's default as well: short enough to need no revocation.
pub const DEFAULT_SVID_LIFE: Duration = Duration::from_secs(3600);

/// Requests of the Workload API are small.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// One process needs a handful of streams.
const MAX_STREAMS: u32 = 64;

/// Serves the Workload API until it is dropped; then every stream ends and the socket is removed.
#[derive(Debug)]
pub struct WorkloadServer {
    file: SocketFile,
    _streams: DropGuard,
    _serving: TaskGuard,
}

impl WorkloadServer {
    /// Listens on the unix socket `path`, open to every user: who gets what is decided by
    /// attestation. SVIDs live for `svid_life` and are sent anew at half of it. Must be called
    /// within a tokio runtime.
    pub fn serve(
        node: Arc<Node>,
        entries: EntrySource,
        path: &Path,
        svid_life: Duration,
    ) -> Result<Self, CaError> {
        Self::serve_for(node, entries, path, &Access::default(), svid_life)
    }

    /// As [`WorkloadServer::serve`], for those whom the socket's mode and group let in.
    pub fn serve_for(
        node: Arc<Node>,
        entries: EntrySource,
        path: &Path,
        access: &Access,
        svid_life: Duration,
    ) -> Result<Self, CaError> {
        let refused = |error: io::Error| CaError::Socket {
            path: path.to_owned(),
            reason: if error.kind() == io::ErrorKind::AddrInUse {
                "another agent answers there".to_owned()
            } else {
                error.to_string()
            },
        };
        let (listener, file) = SocketFile::bind(path, access).map_err(refused)?;
        let listener = UnixListener::from_std(listener).map_err(refused)?;
        let cancel = CancellationToken::new();
        let api = Api::new(node, entries, svid_life, cancel.clone());
        let service =
            SpiffeWorkloadAPIServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES);
        // Without a shutdown signal tonic would leave connections open when the server is dropped.
        let serving = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming::unix(listener), std::future::pending());
        tracing::info!(socket = %path.display(), "serving the SPIFFE Workload API");
        Ok(Self {
            file,
            _streams: cancel.drop_guard(),
            _serving: TaskGuard::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the Workload API has stopped");
                }
            }),
        })
    }

    /// What to put into `SPIFFE_ENDPOINT_SOCKET`.
    pub fn address(&self) -> String {
        self.file.to_string()
    }
}
