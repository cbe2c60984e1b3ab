//! A node's side of the authority: joining, renewing, and the state that it keeps on disk.

mod state;
mod trust;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) use state::{restore, save};
use trust::Trust;

use super::{CaError, authority::AUTHORITY_PATH, join_token::JoinToken, pem, root::Grant};
use crate::{
    Identity, IdentitySource,
    authority_api::{JoinRequest, JoinResponse, MintJwtRequest},
    authority_stub::authority_client::AuthorityClient,
    tls::{self, Expect},
};

/// One call, handshake included; the authority does nothing slow.
const CALL: Duration = Duration::from_secs(10);

/// How a node comes to its intermediate.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// The node's name, as in the join token.
    pub node: String,
    /// Where the intermediate and its key are kept (mode 0700).
    pub directory: PathBuf,
    /// The authority.
    pub authority: SocketAddr,
    /// The authority's roots in PEM; without it the token's fingerprint is trusted.
    pub bundle: Option<Vec<u8>>,
    /// Needed the first time, and after the node was off for longer than its intermediate lives.
    pub token: Option<JoinToken>,
}

/// The authority as seen from a node.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    address: SocketAddr,
    node: String,
}

impl Remote {
    pub(crate) fn new(config: &JoinConfig) -> Self {
        Self::at(config.authority, &config.node)
    }

    pub(crate) fn at(address: SocketAddr, node: &str) -> Self {
        let node = node.to_owned();
        Self { address, node }
    }

    /// The first grant, for a join token.
    pub(crate) async fn join(
        &self,
        token: &JoinToken,
        bundle: Option<&[u8]>,
        request: Vec<u8>,
    ) -> Result<Grant, CaError> {
        let trust = match bundle {
            Some(text) => Trust::Roots(pem::decode(text).map_err(|reason| CaError::BadFile {
                name: "bundle",
                reason,
            })?),
            None => Trust::Fingerprint(token.fingerprint),
        };
        let mut client = self.client(joining_config(trust)?).await?;
        let message = JoinRequest {
            node: self.node.clone(),
            join_token: token.reveal(),
            certificate_request: request,
            ..Default::default()
        };
        let response = self.timed(client.join(message)).await?;
        self.grant(response)
    }

    /// A later grant, as the node that it is.
    pub(crate) async fn renew(
        &self,
        own: Arc<Identity>,
        request: Vec<u8>,
    ) -> Result<Grant, CaError> {
        let mut client = self.client(renewing_config(own)?).await?;
        let message = JoinRequest {
            node: self.node.clone(),
            certificate_request: request,
            ..Default::default()
        };
        let response = self.timed(client.renew(message)).await?;
        self.grant(response)
    }

    pub(crate) async fn mint_jwt(
        &self,
        own: Arc<Identity>,
        spiffe_id: String,
        audience: Vec<String>,
    ) -> Result<String, CaError> {
        let mut client = self.client(renewing_config(own)?).await?;
        let message = MintJwtRequest {
            spiffe_id,
            audience,
            ..Default::default()
        };
        Ok(self.timed(client.mint_jwt(message)).await?.svid)
    }

    async fn client(&self, config: ClientConfig) -> Result<AuthorityClient<Channel>, CaError> {
        let address = self.address;
        let connector = TlsConnector::from(Arc::new(config));
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                Ok::<_, std::io::Error>(TokioIo::new(
                    connector.connect(tls::server_name(), stream).await?,
                ))
            }
        });
        let endpoint = Endpoint::from_static("http://authority").connect_timeout(CALL);
        let channel = endpoint.connect_with_connector(connect).await;
        Ok(AuthorityClient::new(
            channel.map_err(|error| self.error(cause(&error)))?,
        ))
    }

    async fn timed<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CaError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(status.message().to_owned())),
            Err(_) => Err(self.error(format!("no answer within {CALL:?}"))),
        }
    }

    pub(crate) fn grant(&self, response: JoinResponse) -> Result<Grant, CaError> {
        let domain = response.trust_domain.parse();
        Ok(Grant {
            domain: domain
                .map_err(|error: nsm_model::spiffe::SpiffeError| self.error(error.to_string()))?,
            chain: response
                .chain
                .into_iter()
                .map(CertificateDer::from)
                .collect(),
            roots: response
                .bundle
                .into_iter()
                .map(CertificateDer::from)
                .collect(),
            jwks: response.jwt_keys,
        })
    }

    fn error(&self, reason: String) -> CaError {
        CaError::Authority {
            address: self.address,
            reason,
        }
    }
}

/// The deepest cause; a refused certificate in its own words.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    tls::explain(cause)
}

fn renewing_config(own: Arc<Identity>) -> Result<ClientConfig, CaError> {
    let authority = Expect::Check(Arc::new(|id| id.path() == AUTHORITY_PATH));
    Ok(tls::client_config(&IdentitySource::fixed(own), authority)?)
}

fn joining_config(trust: Trust) -> Result<ClientConfig, CaError> {
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    config.alpn_protocols = vec![tls::ALPN_H2.to_vec()];
    config.enable_sni = false;
    Ok(config)
}
