//! Paths as a table writes them, with real keys.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test stops where it fails; no test uses all of it"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nsm_api::connection::{Path, PathSegment};
use nsm_identity::{Identity, ca::Root};
use nsm_model::spiffe::SpiffeId;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};

pub(crate) const LIFE: Duration = Duration::from_secs(60);

/// One line of `paths.txt`.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) path: Path,
    /// Whose certificate the peer shows, if any.
    pub(crate) peer: Option<Arc<Identity>>,
    /// In the order of the table.
    pub(crate) verdicts: Vec<String>,
}

/// Processes by their names, each with a key.
pub(crate) struct World {
    root: Root,
    known: BTreeMap<String, Arc<Identity>>,
    now: SystemTime,
}

pub(crate) fn id(name: &str) -> SpiffeId {
    format!("spiffe://nsm.test/{name}").parse().unwrap()
}

impl World {
    pub(crate) fn new(now: SystemTime) -> Self {
        let root = Root::generate("nsm.test".parse().unwrap()).unwrap();
        let known = BTreeMap::new();
        Self { root, known, now }
    }

    pub(crate) fn rows(&mut self) -> Vec<Row> {
        let lines = include_str!("../paths.txt").lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| self.row(line)).collect()
    }

    pub(crate) fn who(&mut self, name: &str) -> Arc<Identity> {
        let Self { root, known, .. } = self;
        let new = || root.issue(&id(name), LIFE).unwrap();
        Arc::clone(known.entry(name.to_owned()).or_insert_with(new))
    }

    fn row(&mut self, line: &str) -> Row {
        let mut columns = line.split('|').map(str::trim);
        let mut next = || columns.next().unwrap();
        let (name, segments, index, peer) = (next(), next(), next(), next());
        let segments = segments.split_whitespace().map(|cell| PathSegment {
            name: cell.to_owned(),
            token: self.token(cell),
            ..Default::default()
        });
        let path = Path {
            index: index.parse().unwrap(),
            path_segments: segments.collect(),
            ..Default::default()
        };
        Row {
            name: name.to_owned(),
            path,
            peer: (peer != "-").then(|| self.who(peer)),
            verdicts: columns.map(str::to_owned).collect(),
        }
    }

    /// A token as a cell describes it.
    pub(crate) fn token(&mut self, cell: &str) -> String {
        let Some((names, rest)) = cell.split_once('>') else {
            return if cell == "empty" { "" } else { cell }.to_owned();
        };
        let (signer, subject) = names.split_once(':').unwrap_or((names, names));
        let (rest, algorithm) = rest.split_once('~').unwrap_or((rest, "ES256"));
        let (audience, seconds) = rest.split_once('@').unwrap_or((rest, "60"));
        let list = audience.split(',').map(|name| id(name).to_string());
        let audience = match audience.strip_prefix('=') {
            Some(one) => serde_json::json!(id(one).to_string()),
            None => list.collect::<Vec<_>>().into(),
        };
        let now = self.now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires = now.checked_add_signed(seconds.parse().unwrap()).unwrap();
        let claims =
            serde_json::json!({ "sub": id(subject).to_string(), "aud": audience, "exp": expires });
        let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(header), part(claims.to_string()));
        let signature = match algorithm {
            "none" => Vec::new(),
            _ => sign(&self.who(signer), signed.as_bytes()),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn sign(who: &Identity, bytes: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key = who.key().secret_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).unwrap();
    key.sign(&random, bytes).unwrap().as_ref().to_vec()
}
