//! The root of a trust domain: the one place with the root key.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::{
    CaError,
    dir::SecretDir,
    issue,
    join_token::{JoinToken, JoinTokens, fingerprint},
    jwt::JwtKey,
    pem,
};
use crate::{Identity, identity::Bundles, svid, tls, tls::PeerSvid};

/// A root lives for ten years: replacing one means to hand out a new bundle everywhere.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A node that is off for less than this comes back without a new join token.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

const KEY_FILE: &str = "root.key";
const CERTIFICATE_FILE: &str = "root.pem";
const JWT_KEY_FILE: &str = "jwt.key";

/// What a node gets: the right to sign, and whom to trust.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) domain: TrustDomain,
    /// The intermediate first, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) jwks: Vec<u8>,
}

/// The certificate authority of one trust domain.
#[derive(Debug)]
pub struct Root {
    domain: TrustDomain,
    certificate: CertificateDer<'static>,
    issuer: issue::Issuer,
    jwt: JwtKey,
    tokens: JoinTokens,
    intermediate_life: Duration,
}

impl Root {
    /// A new root that lives in memory only.
    pub fn generate(domain: TrustDomain) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = issue::self_signed(&domain, &key, SystemTime::now() + ROOT_LIFE)?;
        let jwt = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::new(domain, certificate, key, &jwt, JoinTokens::memory())
    }

    /// The root kept in `directory` (mode 0700, files 0600), made there the first time.
    pub fn open(directory: &Path, domain: TrustDomain) -> Result<Self, CaError> {
        let dir = SecretDir::open(directory)?;
        let _lock = dir.lock()?;
        let key = stored_key(&dir, KEY_FILE)?;
        let jwt = stored_key(&dir, JWT_KEY_FILE)?;
        let certificate = match dir.read(CERTIFICATE_FILE)? {
            Some(text) => stored_certificate(&text, &domain)?,
            None => {
                let certificate = issue::self_signed(&domain, &key, SystemTime::now() + ROOT_LIFE)?;
                dir.write(
                    CERTIFICATE_FILE,
                    pem::encode(std::slice::from_ref(&certificate)).as_bytes(),
                )?;
                certificate
            }
        };
        Self::new(domain, certificate, key, &jwt, JoinTokens::Dir(dir.clone()))
    }

    fn new(
        domain: TrustDomain,
        certificate: CertificateDer<'static>,
        key: KeyPair,
        jwt: &KeyPair,
        tokens: JoinTokens,
    ) -> Result<Self, CaError> {
        let (jwt, issuer) = (JwtKey::new(jwt)?, issue::Issuer::root(&certificate, key)?);
        Ok(Self {
            domain,
            certificate,
            issuer,
            jwt,
            tokens,
            intermediate_life: INTERMEDIATE_LIFE,
        })
    }

    /// Another life for the intermediates of nodes than [`INTERMEDIATE_LIFE`]; it also bounds their
    /// SVIDs.
    pub fn with_intermediate_life(mut self, life: Duration) -> Self {
        self.intermediate_life = life;
        self
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The trust bundle as PEM, to be handed to nodes and other domains.
    pub fn bundle_pem(&self) -> String {
        pem::encode(std::slice::from_ref(&self.certificate))
    }

    /// The trust bundle of the domain.
    pub fn bundles(&self) -> Bundles {
        BTreeMap::from([(self.domain.clone(), vec![self.certificate.clone()])])
    }

    /// A new key and SVID for `id`, valid for `life` from now (rounded up to a second).
    pub fn issue(&self, id: &SpiffeId, life: Duration) -> Result<Arc<Identity>, CaError> {
        self.issue_until(id, SystemTime::now() + life)
    }

    /// As [`Self::issue`], until a point in time, which may have passed.
    pub fn issue_until(&self, id: &SpiffeId, until: SystemTime) -> Result<Arc<Identity>, CaError> {
        self.issue_with(id, until, self.bundles())
    }

    /// As [`Self::issue_until`], with bundles of the caller's choice: federated domains.
    pub fn issue_with(
        &self,
        id: &SpiffeId,
        until: SystemTime,
        bundles: Bundles,
    ) -> Result<Arc<Identity>, CaError> {
        check_domain(id, &self.domain)?;
        self.issuer.identity(id, until, bundles)
    }

    /// A one-time token by which `node` (letters, digits, `.`, `-`, `_`) may join within an hour.
    pub fn create_join_token(&self, node: &str) -> Result<JoinToken, CaError> {
        node_id(&self.domain, node)?;
        self.tokens
            .create(node, fingerprint(&self.certificate), SystemTime::now())
    }

    /// Uses the token up and signs the node's request.
    pub(crate) fn join(
        &self,
        node: &str,
        token: &JoinToken,
        request: &[u8],
    ) -> Result<Grant, CaError> {
        node_id(&self.domain, node)?;
        let key = parse_request(request)?;
        self.tokens.redeem(node, token, SystemTime::now())?;
        self.grant(node, &key)
    }

    /// Signs the request of a node that proves itself by its certificate.
    pub(crate) fn renew(&self, peer: &PeerSvid, request: &[u8]) -> Result<Grant, CaError> {
        let node = self.node_of(peer)?;
        self.grant(&node, &parse_request(request)?)
    }

    /// Signs for a node in the same process.
    pub(crate) fn grant_local(&self, node: &str, request: &[u8]) -> Result<Grant, CaError> {
        node_id(&self.domain, node)?;
        self.grant(node, &parse_request(request)?)
    }

    /// A JWT SVID for a workload of this domain.
    pub(crate) fn mint_jwt(&self, id: &SpiffeId, audience: &[String]) -> Result<String, CaError> {
        check_domain(id, &self.domain)?;
        self.jwt.mint(id, audience, SystemTime::now())
    }

    /// The node's name, if `peer` is a node agent with its *own* intermediate. Any intermediate can
    /// sign any ID, but its common name is the root's word; so the leaf has to be signed by the one
    /// that comes first, not by another one in the chain.
    pub(crate) fn node_of(&self, peer: &PeerSvid) -> Result<String, CaError> {
        let refuse = || CaError::NotANode(peer.id.clone());
        let signer = peer.intermediates.first().ok_or_else(refuse)?;
        let usage = webpki::KeyUsage::client_auth();
        let chain = std::slice::from_ref(signer);
        tls::verify_chain(&self.bundles(), &peer.leaf, chain, usage, SystemTime::now())
            .map_err(|_| refuse())?;
        let name = svid::common_name(signer)?.ok_or_else(refuse)?;
        if node_id(&self.domain, &name)? == peer.id {
            Ok(name)
        } else {
            Err(refuse())
        }
    }

    fn grant(&self, node: &str, key: &rcgen::PublicKey) -> Result<Grant, CaError> {
        let chain = self
            .issuer
            .authority(node, key, SystemTime::now() + self.intermediate_life)?;
        Ok(Grant {
            domain: self.domain.clone(),
            chain,
            roots: vec![self.certificate.clone()],
            jwks: self.jwt.jwks(),
        })
    }
}

/// The ID of a node's agent; also the check of the node's name.
pub(crate) fn node_id(domain: &TrustDomain, node: &str) -> Result<SpiffeId, CaError> {
    let bad = |reason: String| CaError::NodeName {
        node: node.to_owned(),
        reason,
    };
    if node.contains('/') {
        return Err(bad("a slash is not allowed".to_owned()));
    }
    format!("spiffe://{domain}/nsm/node/{node}")
        .parse()
        .map_err(|error: nsm_model::spiffe::SpiffeError| bad(error.to_string()))
}

pub(crate) fn check_domain(id: &SpiffeId, domain: &TrustDomain) -> Result<(), CaError> {
    if id.member_of(domain) {
        return Ok(());
    }
    Err(CaError::ForeignId {
        id: id.clone(),
        domain: domain.clone(),
    })
}

/// Only the key of a request counts; names and extensions are the signer's business.
pub(crate) fn parse_request(request: &[u8]) -> Result<rcgen::PublicKey, CaError> {
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
    if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(CaError::RequestKey);
    }
    Ok(request.public_key)
}

/// The key in a file of `dir`, made if there is none.
pub(crate) fn stored_key(dir: &SecretDir, name: &'static str) -> Result<KeyPair, CaError> {
    if let Some(text) = dir.read(name)? {
        let text = String::from_utf8_lossy(&text);
        return KeyPair::from_pem(&text).map_err(|error| CaError::BadFile {
            name,
            reason: error.to_string(),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    dir.write(name, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn stored_certificate(
    text: &[u8],
    domain: &TrustDomain,
) -> Result<CertificateDer<'static>, CaError> {
    let name = CERTIFICATE_FILE;
    let all = pem::decode(text).map_err(|reason| CaError::BadFile { name, reason })?;
    let certificate = all.into_iter().next().ok_or(CaError::EmptyChain)?;
    let found = svid::common_name(&certificate)?.unwrap_or_default();
    if found != issue::root_name(domain) {
        let reason = format!("it is the certificate of {found:?}, not of trust domain {domain}");
        return Err(CaError::BadFile { name, reason });
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests;
