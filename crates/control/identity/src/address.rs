//! Where an agent listens: `unix:///path` or `tcp://ip:port` (SPIFFE Workload Endpoint, section 4).

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// An IP address and port; the standard has no host names here.
    Tcp(SocketAddr),
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address {0:?} must be unix:///absolute/path or tcp://ip:port (see SPIFFE_ENDPOINT_SOCKET)"
)]
pub struct AddressError(String);

impl FromStr for AgentAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        if let Some(address) = text.strip_prefix("tcp://") {
            return address.parse().map(Self::Tcp).map_err(|_| error());
        }
        let path = text
            .strip_prefix("unix://")
            .or_else(|| text.strip_prefix("unix:"));
        match path.map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Self::Unix(path)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl AgentAddress {
    /// A gRPC channel without TLS: the Workload API authenticates its caller by the kernel's word.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let address = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let address = address.clone();
            async move {
                Ok::<_, io::Error>(match address {
                    Self::Unix(path) => {
                        TokioIo::new(Either::Unix(UnixStream::connect(path).await?))
                    }
                    Self::Tcp(address) => {
                        TokioIo::new(Either::Tcp(TcpStream::connect(address).await?))
                    }
                })
            }
        });
        Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
    }
}

type Either = either::Stream;

mod either {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::{
        io::{AsyncRead, AsyncWrite, ReadBuf},
        net::{TcpStream, UnixStream},
    };

    /// A stream of either family.
    #[derive(Debug)]
    pub(super) enum Stream {
        Unix(UnixStream),
        Tcp(TcpStream),
    }

    impl AsyncRead for Stream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
                Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            }
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.get_mut() {
                Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
                Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
                Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
                Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            }
        }
    }
}
