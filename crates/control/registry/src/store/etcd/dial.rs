//! How a connection to a member is made: TCP, then TLS where files for it are named.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use nsm_chain::Tasks;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::settings::{Tls, authority};

/// How long a connection may take to come up: etcd is near.
const CONNECT: Duration = Duration::from_secs(1);
/// A member whose machine is gone is noticed by pings, no more often than etcd takes them (5 s).
const PING_EVERY: Duration = Duration::from_secs(6);
/// How long a ping may take.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// Listings are large, and the default of 64 KiB would wait for the network many times.
const WINDOW: u32 = 1 << 20;

/// Either kind of stream.
trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// A connection that is made when it is needed, and made again when it broke; `tasks` owns it.
pub(super) fn channel(
    member: &(String, u16),
    tls: Option<Tls>,
    tasks: &Tasks,
) -> Result<Channel, String> {
    let address = authority(member);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let uri = |scheme: &str| {
        format!("{scheme}://{address}")
            .parse::<Uri>()
            .map_err(|error| format!("{address}: {error}"))
    };
    let endpoint = Endpoint::from(uri("http")?)
        .origin(uri(scheme)?)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .executor(Owner(tasks.clone()));
    let member = member.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (member, tls) = (member.clone(), tls.clone());
        async move { dial(member, tls).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

async fn dial((host, port): (String, u16), tls: Option<Tls>) -> io::Result<Box<dyn Both>> {
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    // Read at each connection: certificates are renewed.
    let config = tokio::task::spawn_blocking(move || config(&tls))
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// What the files say; it waits for the disk.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let certificates = |path: &std::path::Path| {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(all),
            Ok(_) => Err(format!("{}: no certificate in it", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", tls.ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &tls.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, secret)
                .map_err(|error| format!("{}: {error}", certificate.display()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Runs the connection's own futures under our owner.
#[derive(Debug, Clone)]
struct Owner(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Owner {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
