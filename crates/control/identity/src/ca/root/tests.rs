//! Cases of [`super`]: a table for each rule of `root`.

use super::*;
use crate::ca::issue::Issuer;

struct Joined {
    issuer: Issuer,
    certificate: CertificateDer<'static>,
}

fn join(root: &Root, node: &str) -> Joined {
    let (key, request) = crate::ca::node::request().unwrap();
    let chain = root.grant_local(node, &request).unwrap().chain;
    let certificate = chain[0].clone();
    Joined {
        issuer: Issuer::intermediate(chain, key).unwrap(),
        certificate,
    }
}

fn peer(signer: &Joined, name: &str, shown: &[&Joined], root: &Root) -> PeerSvid {
    let id: SpiffeId = format!("spiffe://td/{name}").parse().unwrap();
    let until = SystemTime::now() + Duration::from_secs(60);
    let identity = signer.issuer.identity(&id, until, root.bundles()).unwrap();
    let intermediates = shown
        .iter()
        .map(|joined| joined.certificate.clone())
        .collect();
    PeerSvid {
        id,
        leaf: identity.leaf().clone(),
        intermediates,
        not_after: identity.not_after(),
    }
}

/// A node signs whatever it likes; it must not become another node at the authority by that.
#[test]
fn a_node_is_only_itself() {
    let root = Root::generate("td".parse().unwrap()).unwrap();
    let (a, b) = (join(&root, "a"), join(&root, "b"));
    let stranger = join(&Root::generate("td".parse().unwrap()).unwrap(), "a");
    assert_eq!(
        root.node_of(&peer(&a, "nsm/node/a", &[&a], &root)).unwrap(),
        "a"
    );
    for (case, peer) in [
        ("another node's name", peer(&a, "nsm/node/b", &[&a], &root)),
        (
            "with the other's intermediate in front",
            peer(&a, "nsm/node/b", &[&b, &a], &root),
        ),
        ("a workload", peer(&a, "app", &[&a], &root)),
        ("no intermediate", peer(&a, "nsm/node/a", &[], &root)),
        (
            "another root",
            peer(&stranger, "nsm/node/a", &[&stranger], &root),
        ),
    ] {
        let error = root.node_of(&peer).expect_err(case).to_string();
        assert!(error.contains("is not a node agent"), "{case}: {error}");
        let (_, request) = crate::ca::node::request().unwrap();
        root.renew(&peer, &request).expect_err(case);
    }
}

#[test]
fn requests_are_checked() {
    let root = Root::generate("td".parse().unwrap()).unwrap();
    let (_, request) = crate::ca::node::request().unwrap();
    let mut forged = request.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = rcgen::CertificateParams::default()
        .serialize_request(&other)
        .unwrap();
    for (request, says) in [
        (forged, "cannot make a certificate"),
        (request[..40].to_vec(), "cannot make a certificate"),
        (other.der().to_vec(), "not for an EC P-256 key"),
    ] {
        let error = root.grant_local("a", &request).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} should say {says:?}");
    }
}
