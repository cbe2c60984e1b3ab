//! The part of [`crate::decoders`] that is the authority's.

use std::{net::SocketAddr, time::SystemTime};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateDer;

use super::{CaError, JwtError, attest, join, join_token, jwt, pem, root, workload};
use crate::authority_api::JoinResponse;

pub(crate) fn jwt_svid(
    svid: &str,
    audience: &str,
    now: SystemTime,
    jwks: &[u8],
) -> Result<(SpiffeId, usize), JwtError> {
    let (id, claims) = jwt::validate(svid, audience, now, |_| Some(jwks.to_vec()))?;
    Ok((id, workload::to_struct(claims).fields.len()))
}

pub(crate) fn certificate_request(der: &[u8]) -> Result<Vec<u8>, CaError> {
    Ok(root::parse_request(der)?.der_bytes().to_vec())
}

pub(crate) fn node(domain: &TrustDomain, name: &str) -> Result<SpiffeId, CaError> {
    root::node_id(domain, name)
}

pub(crate) fn grant(response: JoinResponse) -> Result<(usize, usize), CaError> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let grant = join::Remote::at(nowhere, "node").grant(response)?;
    Ok((grant.chain.len(), grant.roots.len()))
}

pub(crate) fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    pem::decode(text)
}

pub(crate) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    pem::encode(certificates)
}

pub(crate) fn outstanding(text: &[u8], now: SystemTime) -> Result<String, CaError> {
    Ok(join_token::changed(text, now, |_| Ok(()))?.1)
}

pub(crate) fn process_start(stat: &[u8]) -> Option<u64> {
    attest::parse_start(stat)
}

pub(crate) fn process_user(status: &[u8]) -> Option<u32> {
    attest::parse_user(status)
}
