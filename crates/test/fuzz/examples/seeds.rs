//! Makes the fixtures and the seeds that are not text, from messages of the product itself:
//! `cargo run -p nsm-fuzz --example seeds` from the root. Fixtures that are there already stay.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use buffa::{Message as _, MessageField};
use nsm_api::{
    connection::{ConnectionEvent, ConnectionEventType},
    registry::Destination,
};
use nsm_fuzz::{fixtures, join};
use nsm_identity::{
    authority_api::{JoinRequest, JoinResponse},
    ca::{Node, Root},
    decoders,
    workload::{X509SVID, X509SVIDResponse},
};
use nsm_model::spiffe::SpiffeId;
use nsm_test_support::{full_connection, full_endpoint, full_request, full_service};

/// Longer than anybody will replay the corpora.
const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = root.join("fixtures.txt");
    if fs::read_to_string(&made).unwrap_or_default().is_empty() {
        fs::write(&made, make()).unwrap();
        eprintln!("fixtures made: run this again for the seeds");
        return;
    }
    let corpus = root.join("../../../fuzz/corpus");
    messages(&corpus);
    identities(&corpus);
}

/// A runtime for the node, whose renewal is a task.
fn make() -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let _entered = runtime.as_ref().unwrap().enter();
    let domain = "nsm.test".parse().unwrap();
    let root = Arc::new(Root::generate(domain).unwrap().with_intermediate_life(LIFE));
    let node = Node::local(Arc::clone(&root), "node-1").unwrap();
    let id: SpiffeId = "spiffe://nsm.test/client".parse().unwrap();
    let identity = node.issue(&id, LIFE).unwrap();
    let now = SystemTime::now() + Duration::from_secs(24 * 3600);
    let until = now + Duration::from_secs(600);
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signer = identity.signer();
    let token = signer.sign(&id, &node.id().clone(), until).unwrap();
    let claims = format!(
        r#"{{"sub":"{id}","aud":["audience"],"exp":{}}}"#,
        seconds(until)
    );
    let header = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;
    let jwt_svid = decoders::sign(signer, header, claims.as_bytes()).unwrap();
    let half = |range| URL_SAFE_NO_PAD.encode(&signer.public_point()[range]);
    let jwks = format!(
        r#"{{"keys":[{{"kty":"EC","kid":"k","crv":"P-256","x":"{}","y":"{}"}}]}}"#,
        half(1..33),
        half(33..65)
    );
    let request = rcgen::CertificateParams::default()
        .serialize_request(&rcgen::KeyPair::generate().unwrap())
        .unwrap();
    let bytes = |bytes: &[u8]| STANDARD.encode(bytes);
    [
        ("domain", "nsm.test".to_owned()),
        ("id", id.to_string()),
        ("now", seconds(now).to_string()),
        ("root", bytes(root.certificate())),
        ("leaf", bytes(identity.leaf())),
        ("intermediate", bytes(&identity.chain()[1])),
        ("key", bytes(identity.key().secret_der())),
        ("request", bytes(request.der())),
        ("token", token),
        ("jwt_svid", jwt_svid),
        ("jwks", jwks),
    ]
    .map(|(name, value)| format!("{name} = {value}\n"))
    .concat()
}

fn write(corpus: &Path, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder: PathBuf = corpus.join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn messages(corpus: &Path) {
    let request = full_request("id", "service").encode_to_vec();
    write(corpus, "connection", "request", request);
    let connection = full_connection("id", "service");
    let event = ConnectionEvent {
        r#type: ConnectionEventType::UPDATE.into(),
        connections: [("id".to_owned(), connection)].into(),
        ..Default::default()
    };
    write(corpus, "connection", "event", event.encode_to_vec());
    let mut addressed = full_request("id", "service");
    let connection = addressed.connection.get_or_insert_default();
    let ip = connection
        .context
        .get_or_insert_default()
        .ip_context
        .get_or_insert_default();
    ip.src_ip_addrs = vec!["172.16.1.3/32".to_owned(), "fd00::3/128".to_owned()];
    ip.dst_ip_addrs = vec!["172.16.1.2/32".to_owned(), "fd00::2/128".to_owned()];
    write(corpus, "connection", "addressed", addressed.encode_to_vec());

    let mut service = full_service("service");
    let destination = Destination {
        destination_selector: [("app".to_owned(), "{{ .app }}".to_owned())].into(),
        weight: 3,
        ..Default::default()
    };
    service.matches[0].routes = vec![destination.clone()];
    let labels = Destination {
        destination_selector: [("app".to_owned(), "test".to_owned())].into(),
        ..Default::default()
    };
    let mut endpoint = full_endpoint("endpoint-1");
    endpoint.network_service_names = vec!["service".to_owned()];
    let of_service = endpoint.network_service_labels["svc"].clone();
    endpoint
        .network_service_labels
        .insert("service".to_owned(), of_service);
    let until = fixtures::now();
    endpoint.expiration_time = MessageField::some(nsm_chain::elements::timestamp(until));
    let mut other = endpoint.clone();
    other.name = "endpoint-2".to_owned();
    let chunks = [
        service.encode_to_vec(),
        labels.encode_to_vec(),
        endpoint.encode_to_vec(),
        other.encode_to_vec(),
    ];
    write(corpus, "registry", "service", join(&chunks));
}

fn identities(corpus: &Path) {
    let [root, leaf, intermediate, key, request] =
        ["root", "leaf", "intermediate", "key", "request"].map(fixtures::bytes);
    let chain = [leaf.clone(), intermediate.clone()].concat();
    write(corpus, "certificate", "chain", &chain);
    write(corpus, "certificate", "leaf", leaf);
    write(corpus, "certificate", "root", &root);
    let svid = X509SVID {
        spiffe_id: fixtures::value("id").to_owned(),
        x509_svid: chain,
        x509_svid_key: key,
        bundle: root.clone(),
        ..Default::default()
    };
    let response = X509SVIDResponse {
        svids: vec![svid],
        federated_bundles: [("spiffe://other.test".to_owned(), root.clone())].into(),
        ..Default::default()
    };
    write(corpus, "workload_api", "response", response.encode_to_vec());

    write(corpus, "authority", "certificate-request", &request);
    let join = JoinRequest {
        node: "node-1".to_owned(),
        join_token: "nsm-join.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        certificate_request: request,
        ..Default::default()
    };
    write(corpus, "authority", "join", join.encode_to_vec());
    let answer = JoinResponse {
        chain: vec![intermediate],
        bundle: vec![root.clone()],
        trust_domain: fixtures::value("domain").to_owned(),
        jwt_keys: fixtures::value("jwks").into(),
        ..Default::default()
    };
    write(corpus, "authority", "answer", answer.encode_to_vec());
    write(
        corpus,
        "ca_files",
        "root.pem",
        decoders::to_pem(&[root.into()]),
    );
    write(corpus, "ca_files", "keys.json", fixtures::value("jwks"));
    write(corpus, "token", "path-token", fixtures::value("token"));
    write(corpus, "token", "jwt-svid", fixtures::value("jwt_svid"));
}
