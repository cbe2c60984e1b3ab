//! The decoders of bytes from other zones that have no public door of their own, for the fuzz
//! targets; nothing else should call them.

use std::{sync::Arc, time::SystemTime};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rustls::pki_types::CertificateDer;
use webpki::KeyUsage;

use crate::{
    Bundles, Identity,
    authority_api::JoinResponse,
    ca::{self, CaError, JwtError},
    client::{self, Unusable},
    svid::{self, Leaf, SvidError},
    tls::{self, VerifyError},
    token::{Signer, TokenError},
    workload::X509SVIDResponse,
};

/// The identity in an agent's answer.
pub fn agent_answer(message: X509SVIDResponse) -> Result<Arc<Identity>, String> {
    client::identity(message).map_err(|unusable| match unusable {
        Unusable::Expired(reason) | Unusable::Wrong(reason) => reason,
    })
}

/// Bundles as an agent sends them.
pub fn bundles(all: &Bundles) -> std::collections::BTreeMap<String, Vec<u8>> {
    client::encode_bundles(all)
}

/// Certificates that stand one after the other.
pub fn chain(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    svid::split(der)
}

/// A peer's chain at `now`, as a server's certificate or as a client's.
pub fn peer(
    bundles: &Bundles,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server: bool,
    now: SystemTime,
) -> Result<Leaf, VerifyError> {
    let usage = if server {
        KeyUsage::server_auth()
    } else {
        KeyUsage::client_auth()
    };
    tls::verify_chain(bundles, leaf, intermediates, usage, now)
}

/// Other facts of a certificate: the end of its life, its key's bits, its common name.
pub fn facts(der: &[u8]) -> Result<(SystemTime, Vec<u8>, Option<String>), SvidError> {
    Ok((
        svid::not_after(der)?,
        svid::public_key(der)?,
        svid::common_name(der)?,
    ))
}

/// A token with any header and any claims.
pub fn sign(signer: &Signer, header: &str, claims: &[u8]) -> Result<String, TokenError> {
    signer.sign_raw(header, claims)
}

/// A JWT SVID that a workload has checked, against one JWK set; the number of its claims as the
/// answer carries them.
pub fn jwt_svid(
    svid: &str,
    audience: &str,
    now: SystemTime,
    jwks: &[u8],
) -> Result<(SpiffeId, usize), JwtError> {
    ca::decoders::jwt_svid(svid, audience, now, jwks)
}

/// A node's certificate request: the bits of its key.
pub fn certificate_request(der: &[u8]) -> Result<Vec<u8>, CaError> {
    ca::decoders::certificate_request(der)
}

/// The ID of the agent of a node with this name.
pub fn node(domain: &TrustDomain, name: &str) -> Result<SpiffeId, CaError> {
    ca::decoders::node(domain, name)
}

/// The authority's answer to a node: how many certificates its chain and its bundle have.
pub fn grant(response: JoinResponse) -> Result<(usize, usize), CaError> {
    ca::decoders::grant(response)
}

/// Certificates in PEM.
pub fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    ca::decoders::from_pem(text)
}

/// Certificates as PEM.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    ca::decoders::to_pem(certificates)
}

/// What the authority keeps of its outstanding join tokens, read at `now` and written again.
pub fn outstanding(text: &[u8], now: SystemTime) -> Result<String, CaError> {
    ca::decoders::outstanding(text, now)
}

/// When a process began, in ticks since the machine did, from its `/proc/<pid>/stat`.
pub fn process_start(stat: &[u8]) -> Option<u64> {
    ca::decoders::process_start(stat)
}

/// The effective user of a process, from its `/proc/<pid>/status`.
pub fn process_user(status: &[u8]) -> Option<u32> {
    ca::decoders::process_user(status)
}
