//! The root's service for nodes, over mutual TLS on TCP; only Join is open to a peer without
//! certificate.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    CaError, Root,
    incoming::{self, PeerInfo},
    join_token::JoinToken,
    root::Grant,
};
use crate::{
    Identity, IdentityPublisher, IdentitySource, TaskGuard,
    authority_api::{JoinRequest, JoinResponse, MintJwtRequest, MintJwtResponse},
    authority_stub::authority_server::{Authority, AuthorityServer as Service},
    tls::{self, Expect, PeerSvid, Verifier},
};

/// The path of the authority's own SPIFFE ID; nodes expect it.
pub(crate) const AUTHORITY_PATH: &str = "/nsm/authority";

/// The authority's own certificate, renewed at half its life.
const OWN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A request holds one certificate request and one token.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Serves Join, Renew and MintJwt until it is dropped.
#[derive(Debug)]
pub struct AuthorityServer {
    address: SocketAddr,
    _serving: TaskGuard,
    _rotation: TaskGuard,
}

impl AuthorityServer {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn serve(root: Arc<Root>, address: SocketAddr) -> Result<Self, CaError> {
        let (publisher, source) = IdentitySource::channel(own_identity(&root)?);
        let config = tls::server_config_with(&source, Verifier::new(&source, Expect::Any, false))?;
        let listen = |error: std::io::Error| CaError::Listen {
            address,
            reason: error.to_string(),
        };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let service =
            Service::new(Api { root: root.clone() }).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let incoming = incoming::tls(listener, TlsAcceptor::from(Arc::new(config)));
        // Without a shutdown signal tonic would leave connections open when the server is dropped.
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, std::future::pending());
        tracing::info!(%address, domain = %root.trust_domain(), "the authority is listening for nodes");
        Ok(Self {
            address,
            _serving: TaskGuard::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the authority has stopped serving");
                }
            }),
            _rotation: TaskGuard::spawn(rotate(root, publisher, source)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The authority's SVID; its chain ends with the root, which a joining node knows by its
/// fingerprint only.
fn own_identity(root: &Root) -> Result<Arc<Identity>, CaError> {
    let id = format!("spiffe://{}{AUTHORITY_PATH}", root.trust_domain());
    let id = id
        .parse()
        .map_err(|error: nsm_model::spiffe::SpiffeError| CaError::NodeName {
            node: id.clone(),
            reason: error.to_string(),
        })?;
    let identity = root.issue(&id, OWN_LIFE)?;
    let mut chain = identity.chain().to_vec();
    chain.push(root.certificate().clone());
    let key = identity.key().secret_der().to_vec();
    Ok(Identity::new(chain, key, root.bundles())?)
}

async fn rotate(root: Arc<Root>, publisher: IdentityPublisher, source: IdentitySource) {
    loop {
        tokio::time::sleep(source.current().remaining(SystemTime::now()) / 2).await;
        match own_identity(&root) {
            Ok(identity) => publisher.publish(identity),
            Err(error) => {
                tracing::error!(%error, "cannot renew the authority's own certificate");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

struct Api {
    root: Arc<Root>,
}

#[tonic::async_trait]
impl Authority for Api {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let token: JoinToken = request.join_token.parse().map_err(|_| {
            CaError::TokenRefused {
                node: request.node.clone(),
            }
            .status()
        })?;
        let root = &self.root;
        let grant = root
            .join(&request.node, &token, &request.certificate_request)
            .map_err(|error| {
                tracing::warn!(node = request.node, %error, "a node was refused");
                error.status()
            })?;
        tracing::info!(node = request.node, "a node joined");
        Ok(Response::new(response(grant)))
    }

    async fn renew(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = peer(&request)?;
        let grant = self
            .root
            .renew(&peer, &request.get_ref().certificate_request);
        let grant = grant.map_err(|error| error.status())?;
        tracing::info!(node = %peer.id, "a node renewed its intermediate");
        Ok(Response::new(response(grant)))
    }

    async fn mint_jwt(
        &self,
        request: Request<MintJwtRequest>,
    ) -> Result<Response<MintJwtResponse>, Status> {
        let peer = peer(&request)?;
        self.root.node_of(&peer).map_err(|error| error.status())?;
        let request = request.into_inner();
        let id = request
            .spiffe_id
            .parse()
            .map_err(|error: nsm_model::spiffe::SpiffeError| {
                Status::invalid_argument(format!("spiffe_id: {error}"))
            })?;
        let svid = self
            .root
            .mint_jwt(&id, &request.audience)
            .map_err(|error| error.status())?;
        Ok(Response::new(MintJwtResponse {
            svid,
            ..Default::default()
        }))
    }
}

fn peer<T>(request: &Request<T>) -> Result<PeerSvid, Status> {
    let info = request.extensions().get::<PeerInfo>().cloned().flatten();
    info.ok_or_else(|| {
        Status::unauthenticated("a certificate of this trust domain is needed; join first")
    })
}

fn response(grant: Grant) -> JoinResponse {
    let bytes = |all: Vec<rustls::pki_types::CertificateDer<'static>>| {
        all.into_iter().map(|der| der.to_vec()).collect::<Vec<_>>()
    };
    JoinResponse {
        chain: bytes(grant.chain),
        bundle: bytes(grant.roots),
        trust_domain: grant.domain.to_string(),
        jwt_keys: grant.jwks,
        ..Default::default()
    }
}
