//! JWT SVIDs of a node that joined a remote authority.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

mod common;

use std::{fs, sync::Arc};

use nsm_identity::{
    address::AgentAddress,
    ca::{AuthorityServer, JoinConfig, Node, Root, WorkloadServer},
    client::request,
    workload::{
        JWTBundlesRequest, JWTSVIDRequest, ValidateJWTSVIDRequest, X509BundlesRequest,
        client::SpiffeWorkloadAPIClient,
    },
};
use tonic::{Code, transport::Channel};

use common::{HOUR, entry_for, id, own_uid, serve};

/// A node of a remote authority with an entry for this process.
struct Joined {
    folder: tempfile::TempDir,
    root: Arc<Root>,
    _authority: AuthorityServer,
    _server: WorkloadServer,
}

impl Joined {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::generate("example.org".parse().unwrap()).unwrap());
        let listen = "127.0.0.1:0".parse().unwrap();
        let authority = AuthorityServer::serve(root.clone(), listen).await.unwrap();
        let config = JoinConfig {
            node: "one".to_owned(),
            directory: folder.path().join("node"),
            authority: authority.address(),
            bundle: Some(root.bundle_pem().into_bytes()),
            token: Some(root.create_join_token("one").unwrap()),
        };
        let node = Arc::new(Node::join(config).await.unwrap());
        fs::write(
            folder.path().join("entries.yaml"),
            entry_for("app", own_uid()),
        )
        .unwrap();
        let server = serve(&node, folder.path(), HOUR);
        Self {
            folder,
            root,
            _authority: authority,
            _server: server,
        }
    }

    async fn client(&self) -> SpiffeWorkloadAPIClient<Channel> {
        let address = AgentAddress::Unix(self.folder.path().join("agent.sock"));
        SpiffeWorkloadAPIClient::new(address.connect().await.unwrap())
    }
}

#[tokio::test]
async fn a_token_is_valid_for_its_audiences_alone() {
    let joined = Joined::new().await;
    let mut raw = joined.client().await;
    let none = raw
        .fetch_jwt_svid(request(JWTSVIDRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let audience = vec!["db".to_owned(), "cache".to_owned()];
    let other = JWTSVIDRequest {
        audience: audience.clone(),
        spiffe_id: id("b").to_string(),
        ..Default::default()
    };
    let other = raw.fetch_jwt_svid(request(other)).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    let wanted = JWTSVIDRequest {
        audience,
        ..Default::default()
    };
    let mut svids = raw
        .fetch_jwt_svid(request(wanted))
        .await
        .unwrap()
        .into_inner()
        .svids;
    let svid = svids.remove(0);
    assert_eq!(svid.spiffe_id, id("app").as_str());

    let mut validate = async |audience: &str, svid: &str| {
        let (audience, svid) = (audience.to_owned(), svid.to_owned());
        let message = ValidateJWTSVIDRequest {
            audience,
            svid,
            ..Default::default()
        };
        raw.validate_jwt_svid(request(message))
            .await
            .map(tonic::Response::into_inner)
    };
    let valid = validate("cache", &svid.svid).await.unwrap();
    assert_eq!(valid.spiffe_id, id("app").as_str());
    assert!(valid.claims.fields.contains_key("exp") && valid.claims.fields.contains_key("aud"));
    let mut forged = svid.svid.clone();
    forged.truncate(forged.len() - 8);
    forged.push_str("AAAAAAAA");
    for (audience, token, says) in [
        ("other", svid.svid.as_str(), "not for audience \"other\""),
        ("db", &forged, "the signature is wrong"),
        ("db", "", "three parts"),
    ] {
        let status = validate(audience, token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().contains(says),
            "{} should say {says:?}",
            status.message()
        );
    }
}

#[tokio::test]
async fn bundles_are_those_of_the_root() {
    let joined = Joined::new().await;
    let mut raw = joined.client().await;
    let domain = "spiffe://example.org";
    let mut keys = raw
        .fetch_jwt_bundles(request(JWTBundlesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let keys = keys.message().await.unwrap().unwrap().bundles;
    assert!(String::from_utf8_lossy(&keys[domain]).contains("\"crv\":\"P-256\""));
    let mut roots = raw
        .fetch_x509_bundles(request(X509BundlesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let roots = roots.message().await.unwrap().unwrap().bundles;
    assert_eq!(roots[domain], joined.root.certificate().to_vec());
}
