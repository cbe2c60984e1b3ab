//! What a node and the authority say to each other when it joins.

use nsm_identity::{
    authority_api::{JoinRequest, JoinResponse, MintJwtRequest, MintJwtResponse},
    ca::JoinToken,
    decoders,
};
use nsm_model::spiffe::SpiffeId;

use crate::{connection::stable, fixtures};

/// A node's request, the authority's answer, a certificate request: whatever the bytes are.
pub fn authority(data: &[u8]) {
    request(data);
    stable::<MintJwtResponse>(data);
    if let Some(message) = stable::<MintJwtRequest>(data) {
        let _ = message.spiffe_id.parse::<SpiffeId>();
    }
    if let Some(message) = stable::<JoinRequest>(data) {
        request(&message.certificate_request);
        let _ = message.join_token.parse::<JoinToken>();
        if let Ok(id) = decoders::node(&fixtures::domain(), &message.node) {
            assert!(id.member_of(&fixtures::domain()));
            assert!(id.path().starts_with("/nsm/node/") && id.path().ends_with(&message.node));
        }
    }
    if let Some(message) = stable::<JoinResponse>(data) {
        let (chain, roots) = (message.chain.len(), message.bundle.len());
        match decoders::grant(message) {
            Ok(counts) => assert_eq!(counts, (chain, roots)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Everybody who reaches the authority's port may send one.
fn request(der: &[u8]) {
    match decoders::certificate_request(der) {
        Ok(key) => assert!(!key.is_empty() && key.len() <= der.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
