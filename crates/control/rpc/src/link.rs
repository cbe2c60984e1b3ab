//! One HTTP/2 connection to a peer, and the calls on it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use http_body_util::{BodyExt as _, combinators::MapErr};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nsm_chain::{Code, Error, Tasks};
use nsm_identity::Identity;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use crate::{fdtable::Descriptors, peer::Peer};

/// The receive window of a stream and of a connection, in bytes: a registry's first answer to a
/// watch is the large message here, and HTTP/2's 64 KiB would make it wait for the round trip.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 4 << 20;
/// The longest header list taken in, in bytes: the registry path with its tokens, and some room.
pub(crate) const MAX_HEADER_LIST: u32 = 64 * 1024;

/// What is gathered before it is sealed and sent, in bytes: one TLS record. HTTP/2 writes headers,
/// data and window updates apart; a record and a system call for each would wake the peer as often.
pub(crate) const WRITE_BUFFER: usize = 16 * 1024;

/// A shared connection to a peer; cheap to clone. It stays open for as long as a handle, a call or
/// a stream of it lives, even when the pool has replaced it.
#[derive(Clone)]
pub struct PeerHandle(Arc<Link>);

struct Link {
    peer: Arc<Peer>,
    renew: SystemTime,
    sender: SendRequest<Body>,
    gone: CancellationToken,
    /// The next caller gets a new connection.
    stale: AtomicBool,
}

impl std::fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PeerHandle({} at {})",
            self.0.peer.id, self.0.peer.address
        )
    }
}

impl PeerHandle {
    /// Starts HTTP/2 on a stream whose handshake is done; `tasks` owns the connection.
    pub(crate) async fn start(
        peer: Arc<Peer>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let (sender, connection) = Builder::new(Owner(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .handshake(TokioIo::new(BufWriter::with_capacity(WRITE_BUFFER, stream)))
            .await
            .map_err(|error| broken(&peer, &error))?;
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let address = peer.address.clone();
        tasks.spawn(async move {
            // Ends with the connection, and also with its owner.
            let _guard = guard;
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection broke");
            }
        });
        let now = SystemTime::now();
        let left = peer.not_after.duration_since(now).unwrap_or_default();
        Ok(Self(Arc::new(Link {
            peer,
            renew: now + left / 2,
            sender,
            gone,
            stale: AtomicBool::new(false),
        })))
    }

    /// Who is on the other side.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }

    /// The SVID that the peer was shown; it checks our tokens with it.
    #[must_use]
    pub fn shown(&self) -> &Arc<Identity> {
        &self.0.peer.shown
    }

    /// The descriptors that cross this connection.
    #[must_use]
    pub fn descriptors(&self) -> &Descriptors {
        &self.0.peer.descriptors
    }

    /// Resolves when the connection dies: the peer's process is gone, shut down, or unreachable.
    pub async fn closed(&self) {
        self.0.gone.cancelled().await;
    }

    /// Whether it is dead.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.gone.is_cancelled()
    }

    /// The service that generated clients take: `NetworkServiceClient::with_origin(channel,
    /// origin())`.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel {
            sender: self.0.sender.clone(),
            link: self.clone(),
        }
    }

    /// The pool makes a new connection for whoever comes next.
    pub(crate) fn retire(&self) {
        self.0.stale.store(true, Ordering::Relaxed);
    }

    /// Whether it was given up: broken, or replaced by one with another handshake.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        !self.usable()
    }

    /// Whether new calls may go on it. Not for long when the peer's certificate ends soon: leases
    /// end with the certificate that was seen here, and the peer has a newer one by then.
    pub(crate) fn usable(&self) -> bool {
        let stale = self.0.stale.load(Ordering::Relaxed) || SystemTime::now() >= self.0.renew;
        !self.is_closed() && !stale
    }

    /// Whether anybody but the one who asks holds it.
    pub(crate) fn held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both are the same connection.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What tonic's generated clients send calls through.
#[derive(Debug, Clone)]
pub struct Channel {
    sender: SendRequest<Body>,
    link: PeerHandle,
}

/// The origin of every request: peers are told apart by SPIFFE ID, never by a host name.
#[must_use]
pub fn origin() -> http::Uri {
    http::Uri::from_static("https://nsm")
}

type ToStatus = fn(hyper::Error) -> Status;
/// The answer's body; what breaks it is `Unavailable`.
pub type AnswerBody = MapErr<Incoming, ToStatus>;

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<AnswerBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.send_request(request);
        let link = self.link.clone();
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(answer.map(|body| body.map_err(broken_body as ToStatus))),
                Err(error) => {
                    link.0.stale.store(true, Ordering::Relaxed);
                    Err(crate::status::to_status(&broken(&link.0.peer, &error)))
                }
            }
        })
    }
}

fn broken(peer: &Peer, error: &hyper::Error) -> Error {
    let cause = root(error);
    Error::new(
        Code::Unavailable,
        format!(
            "the connection to {} at {} broke: {cause}",
            peer.id, peer.address
        ),
    )
}

fn broken_body(error: hyper::Error) -> Status {
    Status::unavailable(format!(
        "the connection broke during the answer: {}",
        root(&error)
    ))
}

/// The first cause: hyper's own texts say no more than that there is one.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

/// Runs hyper's own futures under our owner.
#[derive(Debug, Clone)]
struct Owner(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Owner {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
