//! Handshakes between two sides: who is let in, who is refused, and with which words.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_identity::{
    Identity, IdentitySource,
    ca::Root,
    tls::{self, Expect, VerifyError},
};
use nsm_model::spiffe::SpiffeId;
use rustls::{ClientConnection, Connection, ServerConnection};

fn id(domain: &str, name: &str) -> SpiffeId {
    format!("spiffe://{domain}/{name}").parse().unwrap()
}

fn root(domain: &str) -> Root {
    Root::generate(domain.parse().unwrap()).unwrap()
}

fn hour(root: &Root, name: &str) -> Arc<Identity> {
    root.issue(
        &id(root.trust_domain().as_str(), name),
        Duration::from_secs(3600),
    )
    .unwrap()
}

/// Moves bytes between the two until neither has any; the error of each side.
fn shake(
    client: (&IdentitySource, Expect),
    server: (&IdentitySource, Expect),
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (
    Connection,
    Connection,
    Option<rustls::Error>,
    Option<rustls::Error>,
) {
    let mut client_config = tls::client_config(client.0, client.1).unwrap();
    let server_config = tls::server_config(server.0, server.1).unwrap();
    if versions == [&rustls::version::TLS12] {
        client_config = only_tls12(client.0, client_config);
    }
    let mut client = Connection::from(
        ClientConnection::new(Arc::new(client_config), tls::server_name()).unwrap(),
    );
    let mut server = Connection::from(ServerConnection::new(Arc::new(server_config)).unwrap());
    let (mut client_error, mut server_error) = (None, None);
    loop {
        let a = transfer(&mut client, &mut server, &mut server_error);
        let b = transfer(&mut server, &mut client, &mut client_error);
        if !a && !b {
            return (client, server, client_error, server_error);
        }
    }
}

/// A client that offers TLS 1.2 alone, with the verifier and certificates of ours.
fn only_tls12(source: &IdentitySource, config: rustls::ClientConfig) -> rustls::ClientConfig {
    let server = Arc::new(NoCheck);
    let mut old = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .dangerous()
        .with_custom_certificate_verifier(server)
        .with_client_auth_cert(
            source.current().chain().to_vec(),
            source.current().key().clone_key(),
        )
        .unwrap();
    old.alpn_protocols = config.alpn_protocols;
    old
}

#[derive(Debug)]
struct NoCheck;

impl rustls::client::danger::ServerCertVerifier for NoCheck {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn transfer(from: &mut Connection, to: &mut Connection, error: &mut Option<rustls::Error>) -> bool {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() && error.is_none() {
        to.read_tls(&mut rest).unwrap();
        *error = to.process_new_packets().err();
    }
    !bytes.is_empty()
}

const ALL: &[&rustls::SupportedProtocolVersion] = &[];

#[test]
fn both_sides_learn_each_other() {
    let root = root("example.org");
    let (client, server) = (hour(&root, "client"), hour(&root, "server"));
    let (a, b) = (
        IdentitySource::fixed(client.clone()),
        IdentitySource::fixed(server.clone()),
    );
    for versions in [ALL, &[&rustls::version::TLS12][..]] {
        let expect = Expect::Id(server.id().clone());
        let (on_client, on_server, error_a, error_b) =
            shake((&a, expect), (&b, Expect::Any), versions);
        assert_eq!((error_a, error_b), (None, None));
        assert_eq!(on_server.alpn_protocol(), Some(&b"h2"[..]));
        let seen = tls::peer(&on_server).unwrap();
        assert_eq!((&seen.id, &seen.leaf), (client.id(), client.leaf()));
        assert_eq!(seen.not_after, client.not_after());
        assert_eq!(&tls::peer(&on_client).unwrap().id, server.id());
    }
}

#[test]
fn federated_domains_meet() {
    let (ours, theirs) = (root("ours.org"), root("theirs.org"));
    let mut bundles = ours.bundles();
    bundles.extend(theirs.bundles());
    let until = SystemTime::now() + Duration::from_secs(60);
    let client = ours
        .issue_with(&id("ours.org", "client"), until, bundles.clone())
        .unwrap();
    let server = theirs
        .issue_with(&id("theirs.org", "server"), until, bundles)
        .unwrap();
    let (a, b) = (IdentitySource::fixed(client), IdentitySource::fixed(server));
    let (_, _, error_a, error_b) = shake((&a, Expect::Any), (&b, Expect::Any), ALL);
    assert_eq!((error_a, error_b), (None, None));
}

#[test]
fn the_client_refuses() {
    let ours = root("example.org");
    let theirs = root("foreign.org");
    let impostor = root("example.org");
    let mut of_impostor = theirs.bundles();
    of_impostor.extend(impostor.bundles());
    let long_ago = SystemTime::now() - Duration::from_secs(3);
    let client = IdentitySource::fixed(hour(&ours, "client"));
    let swapped = hour(&ours, "forwarder");
    for (server, expect, says) in [
        (
            hour(&theirs, "server"),
            Expect::Any,
            "its trust domain is foreign, this side trusts example.org",
        ),
        (
            hour(&impostor, "server"),
            Expect::Any,
            "does not lead to the bundle",
        ),
        (
            ours.issue_until(&id("example.org", "server"), long_ago)
                .unwrap(),
            Expect::Any,
            "expired at 20",
        ),
        (
            swapped.clone(),
            Expect::Id(id("example.org", "manager")),
            "spiffe://example.org/forwarder answered where spiffe://example.org/manager was expected",
        ),
        (
            swapped,
            Expect::Check(Arc::new(|id| id.path() == "/manager")),
            "is not allowed here",
        ),
    ] {
        let server = IdentitySource::fixed(server);
        let (_, _, error, _) = shake((&client, expect), (&server, Expect::Any), ALL);
        let error = error.expect("the client must refuse");
        assert!(
            error.to_string().contains(says),
            "{error} should say {says:?}"
        );
        assert!(tls::refusal(&std::io::Error::other(error)).is_some());
    }
}

#[test]
fn the_server_refuses() {
    let (ours, theirs) = (root("example.org"), root("foreign.org"));
    let server = IdentitySource::fixed(hour(&ours, "server"));
    let mut both = theirs.bundles();
    both.extend(ours.bundles());
    let until = SystemTime::now() + Duration::from_secs(60);
    let foreign = theirs
        .issue_with(&id("foreign.org", "client"), until, both)
        .unwrap();
    let expired = ours
        .issue_until(
            &id("example.org", "client"),
            SystemTime::now() - Duration::from_secs(3),
        )
        .unwrap();
    for client in [foreign, expired] {
        let client = IdentitySource::fixed(client);
        let (_, _, _, error) = shake((&client, Expect::Any), (&server, Expect::Any), ALL);
        let error = error.expect("the server must refuse");
        assert!(
            matches!(
                tls::refusal(&error),
                Some(VerifyError::ForeignDomain { .. } | VerifyError::Expired { .. })
            ),
            "{error}"
        );
    }
}
