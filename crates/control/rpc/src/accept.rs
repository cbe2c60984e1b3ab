//! Accepting: each handshake in a task of its own, so that a slow one delays nobody.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use nsm_chain::Tasks;
use nsm_identity::{
    Identity, IdentitySource,
    tls::{self, Expect, VerifyError},
};
use nsm_policy::denial::{Denial, Kind};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{
    fdstream::FdStream,
    handshakes::{Handshakes, Origin},
    link::WRITE_BUFFER,
    listen::Bound,
    peer::Peer,
    refusals::Refusals,
    socket::Socket,
};

/// How long a peer may take for its handshake; a busy node needs milliseconds.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Finished handshakes that wait for the server to take them.
pub(crate) const READY_QUEUE: usize = 64;

/// A peer that answers no ping this long is cut off: its machine may be gone without a word.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(60);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// After a failed accept (no descriptors left) the next attempt waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An SVID, and the TLS that shows it.
#[derive(Clone)]
struct Shown {
    identity: Arc<Identity>,
    tls: TlsAcceptor,
}

impl Shown {
    fn new(identity: Arc<Identity>) -> Result<Self, rustls::Error> {
        let fixed = IdentitySource::fixed(Arc::clone(&identity));
        let config = tls::server_config(&fixed, Expect::Any)?;
        let tls = TlsAcceptor::from(Arc::new(config));
        Ok(Self { identity, tls })
    }
}

/// Accepts on one listening socket.
pub(crate) struct Acceptor {
    source: IdentitySource,
    /// What was shown last, with its TLS.
    last: Shown,
    ready: mpsc::Sender<io::Result<Accepted>>,
    tasks: Tasks,
    /// Ends every connection.
    cut: CancellationToken,
    handshakes: Arc<Handshakes>,
    refusals: Refusals,
}

impl Acceptor {
    pub(crate) fn new(
        source: IdentitySource,
        ready: mpsc::Sender<io::Result<Accepted>>,
        tasks: Tasks,
        cut: CancellationToken,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            last: Shown::new(source.current())?,
            source,
            ready,
            refusals: Refusals::new(tasks.clone()),
            tasks,
            cut,
            handshakes: Arc::default(),
        })
    }

    /// Accepts until its owner ends; the socket and its file go then.
    pub(crate) async fn run(mut self, bound: Bound) {
        loop {
            match accept(&bound).await {
                Ok((socket, address, origin)) => self.shake(socket, address, origin),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The identity of the moment. Who is shown which one has to be known: answers are signed with
    /// its key.
    fn shown(&mut self) -> Result<Shown, rustls::Error> {
        let identity = self.source.current();
        if !Arc::ptr_eq(&self.last.identity, &identity) {
            self.last = Shown::new(identity)?;
        }
        Ok(self.last.clone())
    }

    fn shake(&mut self, socket: Socket, address: String, origin: Origin) {
        let shown = match self.shown() {
            Ok(shown) => shown,
            Err(error) => {
                tracing::error!(%address, %error, "no connection can be accepted with this SVID");
                return;
            }
        };
        let place = self.handshakes.begin(origin);
        let ready = self.ready.clone();
        let (cut, refusals) = (self.cut.clone(), self.refusals.clone());
        self.tasks.spawn(async move {
            let shaken = tokio::select! {
                () = place.given_up.cancelled() => Err(io::Error::other("too many handshakes wait; the oldest is given up")),
                shaken = handshake(&shown, socket, &address, cut) => shaken,
            };
            drop(place);
            match shaken {
                // The server may have ended meanwhile.
                Ok(accepted) => drop(ready.send(Ok(accepted)).await),
                Err(error) => match tls::refusal(&error) {
                    Some(refusal) => refused(&refusals, &address, &origin, refusal),
                    None => refusals.tell(&address, || {
                        tracing::info!(%address, ?origin, %error, "a handshake failed");
                    }),
                },
            }
        });
    }
}

/// A peer that proves nothing has no name: the address has to do. Each is counted, and a line is
/// written for as many as anybody reads.
fn refused(refusals: &Refusals, address: &str, origin: &Origin, refusal: &VerifyError) {
    let what = format!("connect from {origin:?}");
    let denial = Denial::new(Kind::Handshake, address, what, refusal.to_string());
    let total = denial.count();
    refusals.tell(address, || denial.write(total));
}

async fn accept(bound: &Bound) -> io::Result<(Socket, String, Origin)> {
    match bound {
        Bound::Unix(listener, file) => {
            let (stream, _) = listener.accept().await?;
            let origin = stream
                .peer_cred()
                .map_or(Origin::Unknown, |peer| Origin::User(peer.uid()));
            let socket = Socket::Unix(FdStream::new(stream));
            Ok((socket, file.to_string(), origin))
        }
        Bound::Tcp(listener) => {
            let (stream, from) = listener.accept().await?;
            let origin = Origin::machine(from.ip());
            Ok((Socket::tcp(stream)?, format!("tcp://{from}"), origin))
        }
    }
}

async fn handshake(
    shown: &Shown,
    socket: Socket,
    address: &str,
    cut: CancellationToken,
) -> io::Result<Accepted> {
    let local = socket.is_local();
    let descriptors = socket.descriptors(address);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, shown.tls.accept(socket)).await??;
    let svid = tls::peer(stream.get_ref().1)
        .ok_or_else(|| io::Error::other("the peer presented no SVID"))?;
    let peer = Peer::new(
        &svid,
        descriptors,
        local,
        address.to_owned(),
        Arc::clone(&shown.identity),
    );
    Ok(Accepted {
        stream: BufWriter::with_capacity(WRITE_BUFFER, stream),
        peer,
        cut: Box::pin(cut.cancelled_owned()),
    })
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: BufWriter<TlsStream<Socket>>,
    peer: Arc<Peer>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Accepted {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
