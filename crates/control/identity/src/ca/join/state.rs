//! What a node keeps on disk between its runs.

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use crate::ca::{CaError, dir::SecretDir, pem, root::Grant};

const STATE_FILE: &str = "node.json";

/// A grant and its key as one file, so that a crash leaves a matching pair.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    node: String,
    trust_domain: String,
    key: String,
    chain: String,
    bundle: String,
    jwt_keys: String,
}

pub(crate) fn save(
    dir: &SecretDir,
    node: &str,
    grant: &Grant,
    key: &KeyPair,
) -> Result<(), CaError> {
    let state = State {
        node: node.to_owned(),
        trust_domain: grant.domain.to_string(),
        key: key.serialize_pem(),
        chain: pem::encode(&grant.chain),
        bundle: pem::encode(&grant.roots),
        jwt_keys: String::from_utf8_lossy(&grant.jwks).into_owned(),
    };
    let text = serde_json::to_vec_pretty(&state).map_err(|error| bad_state(error.to_string()))?;
    Ok(dir.write(STATE_FILE, &text)?)
}

/// The grant of an earlier run; `None` when there is none for this node.
pub(crate) fn restore(dir: &SecretDir, node: &str) -> Result<Option<(Grant, KeyPair)>, CaError> {
    let Some(text) = dir.read(STATE_FILE)? else {
        return Ok(None);
    };
    let state: State =
        serde_json::from_slice(&text).map_err(|error| bad_state(error.to_string()))?;
    if state.node != node {
        return Err(bad_state(format!(
            "it belongs to node {:?}, not {node:?}",
            state.node
        )));
    }
    let domain = state.trust_domain.parse();
    let grant = Grant {
        domain: domain
            .map_err(|error: nsm_model::spiffe::SpiffeError| bad_state(error.to_string()))?,
        chain: pem::decode(state.chain.as_bytes()).map_err(bad_state)?,
        roots: pem::decode(state.bundle.as_bytes()).map_err(bad_state)?,
        jwks: state.jwt_keys.into_bytes(),
    };
    Ok(Some((grant, KeyPair::from_pem(&state.key)?)))
}

fn bad_state(reason: String) -> CaError {
    CaError::BadFile {
        name: STATE_FILE,
        reason,
    }
}
