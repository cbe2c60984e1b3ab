//! The SPIFFE Workload API's methods, each behind attestation.

mod claims;
mod feed;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use buffa_types::google::protobuf::Struct;
use futures_util::{StreamExt as _, stream};
use nsm_model::spiffe::SpiffeId;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) use claims::to_struct;
use feed::{SvidFeed, bundle_feed};

use super::{
    CaError, EntrySource, Node,
    attest::{Caller, Facts},
    incoming::CallerInfo,
    jwt,
    node::Held,
};
use crate::{
    client::encode_bundles,
    svid,
    workload::{
        JWTBundlesRequest, JWTBundlesResponse, JWTSVID, JWTSVIDRequest, JWTSVIDResponse,
        ValidateJWTSVIDRequest, ValidateJWTSVIDResponse, X509BundlesRequest, X509BundlesResponse,
        X509SVID, X509SVIDRequest, X509SVIDResponse, server::SpiffeWorkloadAPI,
    },
};

/// A JWT SVID for more audiences than this is one for nobody in particular.
const MAX_AUDIENCES: usize = 16;

/// Shared by all callers.
#[derive(Debug)]
struct Agent {
    node: Arc<Node>,
    entries: EntrySource,
    svid_life: Duration,
    cancel: CancellationToken,
}

/// The service.
#[derive(Debug)]
pub(crate) struct Api(Arc<Agent>);

/// A caller that an entry knows.
struct Known {
    caller: Caller,
    facts: Facts,
    id: SpiffeId,
}

type Feed<T> = stream::BoxStream<'static, Result<T, Status>>;

impl Api {
    pub(crate) fn new(
        node: Arc<Node>,
        entries: EntrySource,
        svid_life: Duration,
        cancel: CancellationToken,
    ) -> Self {
        Self(Arc::new(Agent {
            node,
            entries,
            svid_life,
            cancel,
        }))
    }
}

impl Agent {
    /// Who calls; the caller learns nothing but that there is nothing for it.
    fn known<T>(&self, request: &Request<T>) -> Result<Known, Status> {
        // SPIFFE Workload Endpoint, section 6.1: against forged requests by way of a proxy or
        // browser.
        if request
            .metadata()
            .get("workload.spiffe.io")
            .is_none_or(|value| value != "true")
        {
            return Err(Status::invalid_argument(
                "security header missing from request",
            ));
        }
        let info = request.extensions().get::<CallerInfo>().cloned();
        let attested = info
            .ok_or_else(denied)?
            .and_then(|caller| Ok((caller.facts()?, caller)));
        let (facts, caller) = attested.map_err(|error| {
            tracing::warn!(%error, "a caller of the Workload API was not attested");
            denied()
        })?;
        let id = self.find(&facts)?;
        Ok(Known { caller, facts, id })
    }

    fn find(&self, facts: &Facts) -> Result<SpiffeId, Status> {
        self.entries.current().find(facts).cloned().map_err(|reason| {
            let Facts { pid, uid, exe, netns, pidns } = facts;
            let exe = exe.display();
            tracing::warn!(%reason, pid, uid, %exe, netns, pidns, "no identity for a caller of the Workload API");
            denied()
        })
    }

    /// A new key and certificate, and when to send the next.
    fn svid(&self, id: &SpiffeId, held: &Held) -> Result<(X509SVIDResponse, Instant), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let now = SystemTime::now();
        let chain = held.issuer.leaf(id, &key, now + self.svid_life)?;
        let leaf = chain.first().ok_or(CaError::EmptyChain)?;
        let life = svid::not_after(leaf)?
            .duration_since(now)
            .unwrap_or_default();
        let join = |all: &[rustls::pki_types::CertificateDer<'_>]| -> Vec<u8> {
            all.iter().flat_map(|der| der.iter().copied()).collect()
        };
        let svid = X509SVID {
            spiffe_id: id.to_string(),
            x509_svid: join(&chain),
            x509_svid_key: key.serialize_der(),
            bundle: join(&held.grant.roots),
            ..Default::default()
        };
        tracing::debug!(%id, ?life, "issued an SVID");
        Ok((
            X509SVIDResponse {
                svids: vec![svid],
                ..Default::default()
            },
            Instant::now() + life / 2,
        ))
    }
}

fn denied() -> Status {
    Status::permission_denied("no identity issued")
}

#[tonic::async_trait]
impl SpiffeWorkloadAPI for Api {
    type FetchX509SVIDStream = Feed<X509SVIDResponse>;
    type FetchX509BundlesStream = Feed<X509BundlesResponse>;
    type FetchJWTBundlesStream = Feed<JWTBundlesResponse>;

    async fn fetch_x509_svid(
        &self,
        request: Request<X509SVIDRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let known = self.0.known(&request)?;
        let feed = SvidFeed::new(self.0.clone(), known);
        Ok(Response::new(stream::unfold(feed, SvidFeed::next).boxed()))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.0.known(&request)?;
        let message = |held: &Held| X509BundlesResponse {
            bundles: encode_bundles(&held.bundles()),
            ..Default::default()
        };
        Ok(Response::new(bundle_feed(&self.0, message).boxed()))
    }

    async fn fetch_jwt_svid(
        &self,
        request: Request<JWTSVIDRequest>,
    ) -> Result<Response<JWTSVIDResponse>, Status> {
        let id = self.0.known(&request)?.id;
        let request = request.into_inner();
        if request.audience.is_empty() || request.audience.len() > MAX_AUDIENCES {
            return Err(Status::invalid_argument(format!(
                "audience: 1 to {MAX_AUDIENCES} must be given"
            )));
        }
        if !request.spiffe_id.is_empty() && request.spiffe_id != id.as_str() {
            return Err(denied());
        }
        let svid = self
            .0
            .node
            .mint_jwt(&id, request.audience)
            .await
            .map_err(|error| error.status())?;
        let svid = JWTSVID {
            spiffe_id: id.to_string(),
            svid,
            ..Default::default()
        };
        Ok(Response::new(JWTSVIDResponse {
            svids: vec![svid],
            ..Default::default()
        }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JWTBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.0.known(&request)?;
        let message = |held: &Held| JWTBundlesResponse {
            bundles: [(
                format!("spiffe://{}", held.grant.domain),
                held.grant.jwks.clone(),
            )]
            .into(),
            ..Default::default()
        };
        Ok(Response::new(bundle_feed(&self.0, message).boxed()))
    }

    async fn validate_jwt_svid(
        &self,
        request: Request<ValidateJWTSVIDRequest>,
    ) -> Result<Response<ValidateJWTSVIDResponse>, Status> {
        self.0.known(&request)?;
        let request = request.into_inner();
        let held = self.0.node.held();
        let bundle = |id: &SpiffeId| {
            id.member_of(&held.grant.domain)
                .then(|| held.grant.jwks.clone())
        };
        let (id, found) =
            jwt::validate(&request.svid, &request.audience, SystemTime::now(), bundle)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let claims: Struct = to_struct(found);
        Ok(Response::new(ValidateJWTSVIDResponse {
            spiffe_id: id.to_string(),
            claims: buffa::MessageField::some(claims),
            ..Default::default()
        }))
    }
}
