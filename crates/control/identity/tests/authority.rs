//! The built-in authority: its files, joining, and renewal.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use nsm_identity::{
    IdentitySource,
    ca::{AuthorityServer, JoinConfig, JoinToken, Node, Root},
    tls::{self, Expect},
};
use nsm_model::spiffe::{SpiffeId, TrustDomain};
use tokio::net::{TcpListener, TcpStream};

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_root_keeps_its_keys_and_keeps_them_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca");
    let first = Root::open(&path, domain()).unwrap();
    for file in ["root.key", "jwt.key", "root.pem"] {
        let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let key = fs::read(path.join("root.key")).unwrap();
    let again = Root::open(&path, domain()).unwrap();
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(key, fs::read(path.join("root.key")).unwrap());
    assert_eq!(
        first.bundle_pem().as_bytes(),
        fs::read(path.join("root.pem")).unwrap()
    );
    let other = Root::open(&path, "other.org".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(other.contains("not of trust domain other.org"), "{other}");
    for (file, mode) in [
        ("root.key", 0o640),
        ("root.key", 0o604),
        ("jwt.key", 0o660),
        ("", 0o755),
    ] {
        let (file, good) = (path.join(file), if file.is_empty() { 0o700 } else { 0o600 });
        set_mode(&file, mode);
        let error = Root::open(&path, domain()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("mode {mode:04o}")) && error.contains("chmod"),
            "{error}"
        );
        set_mode(&file, good);
    }
    fs::write(path.join("root.key"), "nonsense").unwrap();
    let error = Root::open(&path, domain()).unwrap_err().to_string();
    assert!(error.contains("root.key is damaged"), "{error}");
}

#[test]
fn a_key_of_another_owner_is_refused() {
    if !rustix_is_root() {
        println!(
            "skipped: authority::a_key_of_another_owner_is_refused: giving a file away needs root"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca");
    Root::open(&path, domain()).unwrap();
    std::os::unix::fs::chown(path.join("root.key"), Some(1), None).unwrap();
    let error = Root::open(&path, domain()).unwrap_err().to_string();
    assert!(error.contains("belongs to uid 1"), "{error}");
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_key_that_was_mixed_up_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    Root::open(&a, domain()).unwrap();
    Root::open(&b, domain()).unwrap();
    fs::copy(a.join("root.key"), b.join("root.key")).unwrap();
    let error = Root::open(&b, domain()).unwrap_err().to_string();
    assert!(
        error.contains("does not belong to its certificate"),
        "{error}"
    );
}

fn config(
    folder: &Path,
    node: &str,
    authority: SocketAddr,
    token: Option<JoinToken>,
) -> JoinConfig {
    JoinConfig {
        node: node.to_owned(),
        directory: folder.join(node),
        authority,
        bundle: None,
        token,
    }
}

#[tokio::test]
async fn a_node_joins_once_by_token_and_then_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::open(&folder.path().join("ca"), domain()).unwrap());
    let server = AuthorityServer::serve(root.clone(), "127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = server.address();
    let none = Node::join(config(folder.path(), "one", address, None))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        none.contains("give it a join token made with `nsm ca token one`"),
        "{none}"
    );

    // The token is made by another process on the same files.
    let token = Root::open(&folder.path().join("ca"), domain())
        .unwrap()
        .create_join_token("one")
        .unwrap();
    let first = Node::join(config(folder.path(), "one", address, Some(token.clone())))
        .await
        .unwrap();
    assert_eq!(first.id(), &id("nsm/node/one"));
    let workload = first.issue(&id("app"), Duration::from_secs(60)).unwrap();
    assert_eq!(workload.chain().len(), 2, "leaf and intermediate");
    handshake(
        workload,
        root.issue(&id("server"), Duration::from_secs(60)).unwrap(),
    )
    .await;
    drop(first);

    // Without a token, from its own files; even while the authority is away.
    drop(server);
    let again = Node::join(config(folder.path(), "one", address, None))
        .await
        .unwrap();
    handshake(
        again.issue(&id("app"), Duration::from_secs(60)).unwrap(),
        root.issue(&id("s"), Duration::from_secs(60)).unwrap(),
    )
    .await;

    let server = AuthorityServer::serve(root.clone(), "127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    for (node, token) in [("one", token.clone()), ("two", token)] {
        fs::remove_dir_all(folder.path().join(node)).ok();
        let refused = Node::join(config(folder.path(), node, server.address(), Some(token))).await;
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("unknown, used, expired or another node's"),
            "{error}"
        );
    }
}

/// A real handshake over TCP: both chains lead to the root.
async fn handshake(client: Arc<nsm_identity::Identity>, server: Arc<nsm_identity::Identity>) {
    let (client, server) = (IdentitySource::fixed(client), IdentitySource::fixed(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(
        tls::server_config(&server, Expect::Any).unwrap(),
    ));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(
        tls::client_config(&client, Expect::Any).unwrap(),
    ));
    let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await };
    let connect = async {
        connector
            .connect(
                tls::server_name(),
                TcpStream::connect(address).await.unwrap(),
            )
            .await
    };
    let (accepted, connected) = tokio::join!(accept, connect);
    let peer = tls::peer(accepted.unwrap().get_ref().1).unwrap();
    assert_eq!(&peer.id, client.current().id());
    connected.unwrap();
}

#[tokio::test]
async fn a_false_authority_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let truth = Root::generate(domain()).unwrap();
    let impostor = Arc::new(Root::generate(domain()).unwrap());
    let server = AuthorityServer::serve(impostor, "127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let token = truth.create_join_token("one").unwrap();
    let by_token = config(folder.path(), "one", server.address(), Some(token));
    let bundle = Some(truth.bundle_pem().into_bytes());
    let by_bundle = JoinConfig {
        bundle,
        ..by_token.clone()
    };
    for (config, says) in [
        (by_token, "fingerprint"),
        (by_bundle, "does not lead to the bundle"),
    ] {
        let error = Node::join(config).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} should say {says:?}");
    }
}

#[test]
fn names_and_domains_are_checked() {
    let root = Root::generate(domain()).unwrap();
    for name in ["", "a/b", "..", "a b", "ä"] {
        let error = root.create_join_token(name).unwrap_err().to_string();
        assert!(error.contains(&format!("node name {name:?}")), "{error}");
    }
    let foreign = "spiffe://other.org/a".parse().unwrap();
    let error = root
        .issue(&foreign, Duration::from_secs(1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is not of trust domain example.org"),
        "{error}"
    );
}

#[tokio::test]
async fn an_intermediate_is_renewed_by_the_nodes_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::generate(domain()).unwrap();
    let root = Arc::new(root.with_intermediate_life(Duration::from_secs(2)));
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = AuthorityServer::serve(root.clone(), listen).await.unwrap();
    let token = root.create_join_token("one").unwrap();
    let config = config(folder.path(), "one", server.address(), Some(token));
    let node = Node::join(config).await.unwrap();
    let issue = || node.issue(&id("app"), Duration::from_secs(60)).unwrap();
    let first = issue();
    assert!(
        first.remaining(std::time::SystemTime::now()) <= Duration::from_secs(3),
        "cut to its issuer's life"
    );
    let stored = fs::read(folder.path().join("one/node.json")).unwrap();
    let mut rounds = 0;
    while issue().chain()[1] == first.chain()[1] {
        rounds += 1;
        assert!(rounds < 100, "not renewed within 5 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(
        stored,
        fs::read(folder.path().join("one/node.json")).unwrap()
    );
    let far = root.issue(&id("server"), Duration::from_secs(60)).unwrap();
    handshake(issue(), far).await;
}
