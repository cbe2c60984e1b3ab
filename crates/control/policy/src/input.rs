//! What an operator's policies are asked about: `input`, as the Go implementation builds it.
//!
//! sdk `pkg/tools/opa/opainput.go`: the JSON of the Go struct, so a field is absent where it has
//! its zero value (an `index` of 0, no segments), and `auth_info.certificate`, the peer's leaf in
//! PEM.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nsm_api::connection::{Path, PathSegment};
use serde_json::{Map, Value, json};

/// Characters of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// Names and who registered them: each one's `path_ids`.
pub type PathIds = BTreeMap<String, Vec<String>>;

/// A question to an operator's policies.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The path: up to our own segment for a server, all of it for a client.
    pub path: &'a Path,
    /// The peer's leaf certificate (DER); empty where the call begins in this process.
    pub certificate: &'a [u8],
    /// What is registered, in the registry's questions.
    pub registration: Option<Registration<'a>>,
}

/// The part of the input that only a registration has.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// The SPIFFE ID of whoever registers: segment 0's.
    pub id: &'a str,
    /// The service's or endpoint's name.
    pub name: &'a str,
    /// What is registered.
    pub path_ids: &'a PathIds,
}

impl Input<'_> {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = match self.registration {
            None => connection(self.path),
            Some(registration) => registry(self.path, registration),
        };
        let certificate = json!({ "certificate": pem(self.certificate) });
        object.insert("auth_info".to_owned(), certificate);
        Value::Object(object)
    }
}

/// `networkservice.Path`.
fn connection(path: &Path) -> Map<String, Value> {
    let mut object = Map::new();
    if path.index != 0 {
        object.insert("index".to_owned(), path.index.into());
    }
    if !path.path_segments.is_empty() {
        let segments = path.path_segments.iter().map(segment).collect();
        object.insert("path_segments".to_owned(), Value::Array(segments));
    }
    object
}

fn segment(segment: &PathSegment) -> Value {
    let mut object = Map::new();
    let texts = [
        ("name", &segment.name),
        ("id", &segment.id),
        ("token", &segment.token),
    ];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        object.insert(field.to_owned(), text.as_str().into());
    }
    if let Some(expires) = segment.expires.as_option() {
        let mut time = Map::new();
        if expires.seconds != 0 {
            time.insert("seconds".to_owned(), expires.seconds.into());
        }
        if expires.nanos != 0 {
            time.insert("nanos".to_owned(), expires.nanos.into());
        }
        object.insert("expires".to_owned(), Value::Object(time));
    }
    if !segment.metrics.is_empty() {
        let metrics = segment.metrics.iter();
        let metrics = metrics.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        object.insert("metrics".to_owned(), Value::Object(metrics.collect()));
    }
    Value::Object(object)
}

/// `RegistryOpaInput` of sdk `pkg/registry/common/authorize`: no field is ever absent, and a
/// segment is its token.
fn registry(path: &Path, registration: Registration<'_>) -> Map<String, Value> {
    let segments = path.path_segments.iter();
    let segments: Vec<Value> = segments
        .map(|segment| json!({ "token": segment.token }))
        .collect();
    [
        ("resource_id", registration.id.into()),
        ("resource_name", registration.name.into()),
        ("resource_path_ids_map", json!(registration.path_ids)),
        ("path_segments", segments.into()),
        ("index", path.index.into()),
    ]
    .map(|(field, value)| (field.to_owned(), value))
    .into_iter()
    .collect()
}

/// A certificate as Go's `encoding/pem` writes it; nothing for none.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    if der.is_empty() {
        return String::new();
    }
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm_api::connection::PathSegment;

    fn path(index: u32, tokens: &[&str]) -> Path {
        let segments = tokens.iter().map(|token| PathSegment {
            name: "hop".to_owned(),
            token: (*token).to_owned(),
            ..Default::default()
        });
        Path {
            index,
            path_segments: segments.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_zero_is_absent_in_a_path_and_present_in_a_registration() {
        let names = PathIds::from([("nse".to_owned(), vec!["spiffe://td/a".to_owned()])]);
        let registration = Registration {
            id: "spiffe://td/a",
            name: "nse",
            path_ids: &names,
        };
        let rows = [
            (
                path(0, &[]),
                None,
                json!({"auth_info": {"certificate": ""}}),
            ),
            (
                path(1, &["a", ""]),
                None,
                json!({"index": 1, "path_segments": [{"name": "hop", "token": "a"}, {"name": "hop"}], "auth_info": {"certificate": ""}}),
            ),
            (
                path(0, &["a", ""]),
                Some(registration),
                json!({"index": 0, "path_segments": [{"token": "a"}, {"token": ""}], "resource_id": "spiffe://td/a", "resource_name": "nse",
                    "resource_path_ids_map": {"nse": ["spiffe://td/a"]}, "auth_info": {"certificate": ""}}),
            ),
        ];
        for (path, registration, expected) in rows {
            let input = Input {
                path: &path,
                certificate: &[],
                registration,
            };
            assert_eq!(input.json(), expected);
        }
    }

    #[test]
    fn a_certificate_has_lines_of_64() {
        let text = pem(&[0; 50]);
        let lines: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 4, 25]);
    }
}
