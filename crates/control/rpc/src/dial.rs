//! How a connection to an address is made.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nsm_chain::{Code, Error, Tasks};
use nsm_identity::{
    Identity, IdentitySource,
    tls::{self, Expect},
};
use nsm_model::url::{EndpointUrl, InodeUrl};
use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::{
    fdstream::FdStream,
    fdtable::inode_url,
    link::PeerHandle,
    peer::Peer,
    several::{self, Place},
    socket::Socket,
};

/// How long a connection may take to come up, handshake included. A handshake costs about a
/// millisecond; a machine that is gone answers never.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// What is dialled, and what tells one pooled connection from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Tcp(Vec<Place>),
    Unix(String),
    Inode(InodeUrl),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(places) => f.write_str(&several::show(places)),
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Inode(inode) => write!(f, "unix socket {inode}"),
        }
    }
}

/// What is needed to dial besides the target: the socket's own descriptor, where it has one.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) target: Target,
    descriptor: Option<Arc<OwnedFd>>,
}

impl Address {
    /// An address that an endpoint URL names.
    ///
    /// A path below `/proc` names a descriptor, whose number is used again for other sockets: the
    /// socket's inode is the address then.
    pub(crate) fn of(url: &EndpointUrl) -> Result<Self, Error> {
        let list = several::places(&url.to_string());
        let target = match url {
            EndpointUrl::Tcp { .. } | EndpointUrl::Other(_) if list.is_some() => {
                Target::Tcp(list.unwrap_or_default())
            }
            EndpointUrl::Tcp { host, port } => Target::Tcp(vec![(host.clone(), *port)]),
            EndpointUrl::Unix(path) if path.starts_with("/proc/") => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
                    let message = format!("the socket {url} cannot be opened: {error}");
                    Error::new(Code::Unavailable, message)
                })?;
                return Self::of_descriptor(Arc::new(descriptor));
            }
            EndpointUrl::Unix(path) => Target::Unix(path.clone()),
            EndpointUrl::Inode(_) | EndpointUrl::Other(_) => {
                let message = format!(
                    "{url} cannot be dialled: use tcp://host:port, or unix:///path; \
                     an inode:// URL needs the descriptor that came with it"
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
        };
        Ok(Self {
            target,
            descriptor: None,
        })
    }

    /// A unix socket by an (O_PATH) descriptor of it.
    pub(crate) fn of_descriptor(descriptor: Arc<OwnedFd>) -> Result<Self, Error> {
        let inode = inode_url(descriptor.as_ref())?;
        Ok(Self {
            target: Target::Inode(inode),
            descriptor: Some(descriptor),
        })
    }

    async fn open(&self) -> io::Result<Socket> {
        match (&self.target, &self.descriptor) {
            (Target::Tcp(_), _) => Err(io::ErrorKind::Unsupported.into()),
            (Target::Unix(path), _) => Ok(Socket::Unix(FdStream::new(
                UnixStream::connect(path).await?,
            ))),
            (Target::Inode(_), Some(descriptor)) => {
                let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                Ok(Socket::Unix(FdStream::new(
                    UnixStream::connect(path).await?,
                )))
            }
            (Target::Inode(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Connects, proves both identities, ours with this one, and starts HTTP/2.
    pub(crate) async fn dial(
        &self,
        own: &Arc<Identity>,
        tasks: &Tasks,
    ) -> Result<PeerHandle, Error> {
        match tokio::time::timeout(DIAL_TIMEOUT, self.dial_unbounded(own, tasks)).await {
            Ok(done) => done,
            Err(_) => Err(Error::new(
                Code::Unavailable,
                format!("{} did not answer within {DIAL_TIMEOUT:?}", self.target),
            )),
        }
    }

    async fn dial_unbounded(
        &self,
        own: &Arc<Identity>,
        tasks: &Tasks,
    ) -> Result<PeerHandle, Error> {
        let unreachable = |error: io::Error| {
            let message = format!(
                "{} cannot be reached: {error}; does its owner run?",
                self.target
            );
            Error::new(Code::Unavailable, message)
        };
        let Target::Tcp(places) = &self.target else {
            let socket = self.open().await.map_err(unreachable)?;
            return self.prove(socket, own, tasks).await;
        };
        let me = own.id().to_string();
        let candidates = several::addresses(places, &me).await.map_err(unreachable)?;
        several::first(candidates, |address| {
            Box::pin(async move {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                let socket = Socket::tcp(stream).map_err(unreachable)?;
                self.prove(socket, own, tasks).await
            })
        })
        .await
    }

    async fn prove(
        &self,
        socket: Socket,
        own: &Arc<Identity>,
        tasks: &Tasks,
    ) -> Result<PeerHandle, Error> {
        let address = self.target.to_string();
        let local = socket.is_local();
        let descriptors = socket.descriptors(&address);
        let source = IdentitySource::fixed(Arc::clone(own));
        let config = tls::client_config(&source, Expect::Any)
            .map_err(|error| Error::new(Code::Internal, format!("TLS: {error}")))?;
        let connector = TlsConnector::from(Arc::new(config));
        let refused = |error: &io::Error| refused(&address, own, error);
        let stream = connector
            .connect(tls::server_name(), socket)
            .await
            .map_err(|e| refused(&e))?;
        let svid = tls::peer(stream.get_ref().1).ok_or_else(|| {
            Error::new(
                Code::Unauthenticated,
                format!("{address} presented no SVID"),
            )
        })?;
        let shown = Arc::clone(own);
        let peer = Peer::new(&svid, descriptors, local, address.clone(), shown);
        // With TLS 1.3 the other side judges our certificate after our handshake is done; its
        // first bytes say that it accepts. A small buffer is bypassed by all later reads.
        let mut stream = BufReader::with_capacity(64, stream);
        if stream.fill_buf().await.map_err(|e| refused(&e))?.is_empty() {
            return Err(refused(&io::ErrorKind::UnexpectedEof.into()));
        }
        PeerHandle::start(peer, stream, tasks).await
    }
}

fn refused(address: &str, own: &Identity, error: &io::Error) -> Error {
    if let Some(ours) = tls::refusal(error) {
        return Error::new(Code::Unauthenticated, format!("{address}: {ours}"));
    }
    let alert = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let me = own.id();
    match alert {
        Some(rustls::Error::AlertReceived(alert)) => Error::new(
            Code::Unauthenticated,
            format!(
                "{address} refuses the SVID of {me} ({alert:?}); do both trust each other's authority?"
            ),
        ),
        _ => Error::new(
            Code::Unavailable,
            format!("the handshake of {me} with {address} failed: {error}"),
        ),
    }
}
