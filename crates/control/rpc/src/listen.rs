//! Listening sockets: unix and TCP, mutual TLS on both, one gRPC server behind them.

use std::{io, time::Duration};

use nsm_chain::Tasks;
use nsm_identity::{
    IdentitySource,
    sockfile::{Access, SocketFile},
};
use nsm_model::url::EndpointUrl;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{
    accept::{Acceptor, PING_EVERY, PING_TIMEOUT, READY_QUEUE},
    link::{CONNECTION_WINDOW, MAX_HEADER_LIST, STREAM_WINDOW},
};

/// The most calls and streams of one connection at a time: each monitored connection of a peer is
/// a stream of its own, and a node has some hundreds of workloads.
pub const MAX_STREAMS: u32 = 4_096;

/// How long calls in flight may take to finish after the shutdown began; then their connections are
/// cut, so that no peer keeps a process alive.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Why an address cannot be listened on, or a server ended.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not `unix:///path` or `tcp://host:port`.
    #[error("cannot listen on {0}: write unix:///path or tcp://host:port")]
    Address(EndpointUrl),
    /// None given.
    #[error("no address to listen on: name at least one unix:///path or tcp://host:port")]
    NoAddress,
    /// Somebody answers on the socket file.
    #[error("cannot listen on unix://{0}: another process does; stop it, or choose another path")]
    InUse(String),
    /// The system refused.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address asked for.
        address: EndpointUrl,
        /// The system's reason.
        error: io::Error,
    },
    /// The TLS configuration.
    #[error("cannot listen: TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The server itself.
    #[error("the gRPC server ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

pub(crate) enum Bound {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// Bound sockets that nothing is served on yet.
pub struct Listener {
    sockets: Vec<Bound>,
    addresses: Vec<EndpointUrl>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.addresses).finish()
    }
}

impl Listener {
    /// Binds every address: `unix:///path` (its folder is made, a dead socket file replaced, the
    /// file removed at the end) and `tcp://host:port` (port 0 takes a free one).
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub async fn bind(addresses: &[EndpointUrl]) -> Result<Self, ListenError> {
        Self::bind_for(addresses, &Access::default()).await
    }

    /// As [`Listener::bind`], with unix sockets for those whom their mode and group let in.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn bind_for(addresses: &[EndpointUrl], access: &Access) -> Result<Self, ListenError> {
        let mut listener = Self {
            sockets: Vec::new(),
            addresses: Vec::new(),
        };
        for address in addresses {
            listener.bind_one(address, access).await?;
        }
        if listener.sockets.is_empty() {
            return Err(ListenError::NoAddress);
        }
        Ok(listener)
    }

    async fn bind_one(
        &mut self,
        address: &EndpointUrl,
        access: &Access,
    ) -> Result<(), ListenError> {
        let failed = |error| ListenError::Bind {
            address: address.clone(),
            error,
        };
        match address {
            EndpointUrl::Unix(path) => {
                let bound = SocketFile::bind(path.as_ref(), access);
                let (socket, file) = bound.map_err(|error| {
                    if error.kind() == io::ErrorKind::AddrInUse {
                        return ListenError::InUse(path.clone());
                    }
                    failed(error)
                })?;
                let socket = UnixListener::from_std(socket).map_err(failed)?;
                self.sockets.push(Bound::Unix(socket, file));
                self.addresses.push(address.clone());
            }
            EndpointUrl::Tcp { host, port } => {
                let socket = TcpListener::bind((host.as_str(), *port))
                    .await
                    .map_err(failed)?;
                let port = socket.local_addr().map_err(failed)?.port();
                self.sockets.push(Bound::Tcp(socket));
                self.addresses.push(EndpointUrl::Tcp {
                    host: host.clone(),
                    port,
                });
            }
            EndpointUrl::Inode(_) | EndpointUrl::Other(_) => {
                return Err(ListenError::Address(address.clone()));
            }
        }
        Ok(())
    }

    /// The bound addresses in the order asked for, with the ports that were taken.
    #[must_use]
    pub fn addresses(&self) -> &[EndpointUrl] {
        &self.addresses
    }

    /// Serves until `shutdown` resolves; then takes no more calls, and returns when those in flight
    /// are answered, after [`SHUTDOWN_GRACE`] at most. Dropping it cuts every connection.
    ///
    /// # Errors
    /// When TLS cannot be configured, or the server fails as a whole.
    pub async fn serve(
        self,
        routes: Routes,
        source: &IdentitySource,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ListenError> {
        let (tasks, cut, stopping) = (
            Tasks::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let _guards = (tasks.guard(), cut.clone().drop_guard());
        let (ready, incoming) = tokio::sync::mpsc::channel(READY_QUEUE);
        for socket in self.sockets {
            let acceptor =
                Acceptor::new(source.clone(), ready.clone(), tasks.clone(), cut.clone())?;
            tasks.spawn(acceptor.run(socket));
        }
        drop(ready);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(incoming),
                stopping.clone().cancelled_owned(),
            );
        let end = async {
            shutdown.await;
            // Accepting ends here, and socket files go.
            tasks.shutdown(SHUTDOWN_GRACE).await;
            stopping.cancel();
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            served = server => served?,
            () = end => {}
        }
        Ok(())
    }
}
