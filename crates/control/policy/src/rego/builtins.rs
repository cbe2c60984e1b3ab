//! What policies call that the interpreter does not have: JWTs and the time.
//!
//! OPA's reference, "Built-in Functions", sections "Tokens" and "Time". Where OPA's function fails,
//! ours is undefined, as OPA makes of it: the rule around it does not hold.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use nsm_identity::token;
use regorus::{Engine, Value};
use serde_json::json;

/// Adds them.
pub(super) fn add(engine: &mut Engine) -> Result<(), String> {
    let decode = |arguments: Vec<Value>| {
        let token = arguments.first().and_then(|value| value.as_string().ok());
        Ok(token
            .and_then(|token| decode(token))
            .unwrap_or(Value::Undefined))
    };
    let verify = |arguments: Vec<Value>| {
        let [token, certificate] = arguments.as_slice() else {
            return Ok(Value::Undefined);
        };
        let verdict = match (token.as_string(), certificate.as_string()) {
            (Ok(token), Ok(certificate)) => verify_es256(token, certificate),
            _ => None,
        };
        Ok(verdict.map_or(Value::Undefined, Value::from))
    };
    let now = |_: Vec<Value>| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Value::from(u64::try_from(since.as_nanos())?))
    };
    let added = engine
        .add_extension("time.now_ns".to_owned(), 0, Box::new(now))
        .and_then(|()| engine.add_extension("io.jwt.decode".to_owned(), 1, Box::new(decode)))
        .and_then(|()| engine.add_extension("io.jwt.verify_es256".to_owned(), 2, Box::new(verify)));
    added.map_err(|error| error.to_string())
}

/// `io.jwt.decode`: header, claims, and the signature in hexadecimal.
fn decode(token: &str) -> Option<Value> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        return None;
    };
    if token.len() > token::MAX_TOKEN_BYTES {
        return None;
    }
    let object = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        value.is_object().then_some(value)
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let decoded = json!([object(header)?, object(claims)?, hex]);
    serde_json::from_value(decoded).ok()
}

/// `io.jwt.verify_es256`, with the key of a certificate in PEM.
fn verify_es256(token: &str, certificate: &str) -> Option<bool> {
    let body = certificate
        .split_once("-----BEGIN CERTIFICATE-----")?
        .1
        .split_once("-----END CERTIFICATE-----")?
        .0;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    token::is_signed_by(token, &der).ok()
}

/// A question with every field that a real one may have.
pub(super) fn sample() -> serde_json::Value {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let token = format!(
        "{}.{}.{}",
        part(r#"{"alg":"ES256","typ":"JWT"}"#),
        part(r#"{"sub":"spiffe://example/a","aud":["spiffe://example/b"],"exp":1}"#),
        URL_SAFE_NO_PAD.encode([0; 64]),
    );
    let segment = json!({ "name": "a", "id": "1", "token": token, "expires": { "seconds": 1 }, "metrics": { "a": "b" } });
    json!({
        "index": 1,
        "path_segments": [segment, segment, segment],
        "resource_id": "spiffe://example/a",
        "resource_name": "a",
        "resource_path_ids_map": { "a": ["spiffe://example/a"] },
        "spiffe_id_connection_map": { "spiffe://example/a": ["1"] },
        "selector_connection_ids": ["1"],
        "service_spiffe_id": "spiffe://example/a",
        "auth_info": { "certificate": crate::input::pem(b"sample") },
    })
}
