//! rustls configurations that speak SPIFFE: the current SVID is presented, the peer's is verified
//! against the bundle of its own trust domain, and host names mean nothing.
//!
//! Sessions are never resumed. A resumed session skips the certificates, so it would outlive an
//! expired SVID or a withdrawn trust bundle; connections are pooled, so there is little to win.

mod verify;

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use nsm_model::spiffe::SpiffeId;
use rustls::{
    ClientConfig, CommonState, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

pub(crate) use verify::{Verifier, verify_chain};
pub use verify::{VerifyError, explain, refusal};

use crate::{IdentitySource, svid::Leaf};

/// The protocol of gRPC; grpc-go refuses a peer that does not offer it.
pub const ALPN_H2: &[u8] = b"h2";

/// Decides about an authenticated peer.
pub type Authorize = Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>;

/// Which authenticated peers are acceptable.
#[derive(Clone, Default)]
pub enum Expect {
    /// Everybody whose trust domain has a bundle (upstream's `AuthorizeAny`).
    #[default]
    Any,
    /// One peer alone.
    Id(SpiffeId),
    /// Whoever the function accepts.
    Check(Authorize),
}

impl std::fmt::Debug for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Id(id) => write!(f, "Id({id})"),
            Self::Check(_) => f.write_str("Check(..)"),
        }
    }
}

/// The verified certificate of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSvid {
    /// Who it is.
    pub id: SpiffeId,
    /// The leaf certificate, DER; it verifies the peer's tokens.
    pub leaf: CertificateDer<'static>,
    /// The rest of the chain as presented, DER.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The end of the leaf's life.
    pub not_after: SystemTime,
}

/// The configuration of a listener: mutual TLS 1.2 or 1.3 with the SVID that is current at each
/// handshake.
pub fn server_config(
    source: &IdentitySource,
    expect: Expect,
) -> Result<ServerConfig, rustls::Error> {
    server_config_with(source, Verifier::new(source, expect, true))
}

pub(crate) fn server_config_with(
    source: &IdentitySource,
    verifier: Arc<Verifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Current(source.clone())));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The configuration of a dialler: as [`server_config`]; connect with [`server_name`].
pub fn client_config(
    source: &IdentitySource,
    expect: Expect,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(source, expect, true))
        .with_client_cert_resolver(Arc::new(Current(source.clone())));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// What rustls is told as the server's name; SPIFFE has none, and nothing of it is sent.
pub fn server_name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED))
}

/// Who is on the other side of a finished handshake; `None` before it, and for a peer without
/// certificate.
pub fn peer(connection: &CommonState) -> Option<PeerSvid> {
    let (leaf, intermediates) = connection.peer_certificates()?.split_first()?;
    let facts = Leaf::parse(leaf).ok()?;
    Some(PeerSvid {
        id: facts.id,
        leaf: leaf.clone().into_owned(),
        intermediates: intermediates
            .iter()
            .map(|der| der.clone().into_owned())
            .collect(),
        not_after: facts.not_after,
    })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Presents the SVID of the moment.
#[derive(Debug)]
struct Current(IdentitySource);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().certified_key().clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().certified_key().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
