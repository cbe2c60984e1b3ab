//! Accepted connections with what is known about their other end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::attest::{AttestError, Caller};
use crate::tls::{self, PeerSvid};

/// A node has some hundreds of workloads with one connection each.
const MAX_CONNECTIONS: usize = 4096;

/// Nodes join rarely; more handshakes at once are an attack or a storm, and wait.
const MAX_HANDSHAKES: usize = 64;

/// A handshake takes milliseconds of CPU and two round trips.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// After a failing accept (out of descriptors, mostly) others need a moment to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection, what is known about its peer, and its place among [`MAX_CONNECTIONS`].
#[derive(Debug)]
pub(crate) struct Accepted<S, I> {
    stream: S,
    info: I,
    _place: Option<OwnedSemaphorePermit>,
}

/// The process at the other end of a unix socket, or why it is unknown.
pub(crate) type CallerInfo = Result<Caller, AttestError>;

/// The certificate at the other end of a TLS connection, if it showed one.
pub(crate) type PeerInfo = Option<PeerSvid>;

/// The callers of a unix socket.
pub(crate) fn unix(
    listener: UnixListener,
) -> impl Stream<Item = io::Result<Accepted<UnixStream, CallerInfo>>> + Send {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold((listener, places), |(listener, places)| async move {
        let place = places.clone().acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let info = Caller::of(&stream);
                    return Some((
                        Ok(Accepted {
                            stream,
                            info,
                            _place: place,
                        }),
                        (listener, places),
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a Workload API connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

type Handshakes = JoinSet<Option<Accepted<TlsStream<TcpStream>, PeerInfo>>>;

/// The peers of a TLS port; handshakes run beside each other.
pub(crate) fn tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> impl Stream<Item = io::Result<Accepted<TlsStream<TcpStream>, PeerInfo>>> + Send {
    let state = (listener, acceptor, Handshakes::new());
    stream::unfold(state, |(listener, acceptor, mut shakes)| async move {
        loop {
            tokio::select! {
                Some(done) = shakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return Some((Ok(accepted), (listener, acceptor, shakes)));
                    }
                }
                accepted = listener.accept(), if shakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((stream, _)) => { shakes.spawn(handshake(acceptor.clone(), stream)); }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an authority connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    })
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Option<Accepted<TlsStream<TcpStream>, PeerInfo>> {
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let info = tls::peer(stream.get_ref().1);
            Some(Accepted {
                stream,
                info,
                _place: None,
            })
        }
        Ok(Err(error)) => {
            tracing::info!(
                error = tls::explain(&error),
                "a TLS handshake with the authority failed"
            );
            None
        }
        Err(_) => None,
    }
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Accepted<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Accepted<S, I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Accepted<S, I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
