//! X.509 SVIDs: what a peer shows in the handshake.

use std::time::{Duration, UNIX_EPOCH};

use nsm_identity::{
    decoders,
    svid::{Leaf, SvidError},
    token,
};

use crate::fixtures::{self, LEAF};

/// Certificates in DER, one after the other: the leaf first.
pub fn certificate(data: &[u8]) {
    leaf(data);
    let Ok(chain) = decoders::chain(data) else {
        return;
    };
    assert_eq!(chain.iter().map(|der| der.len()).sum::<usize>(), data.len());
    assert!(chain.iter().flat_map(|der| der.iter()).eq(data));
    let Some((first, rest)) = chain.split_first() else {
        return;
    };
    leaf(first);
    let bundles = fixtures::bundles();
    let day = Duration::from_secs(24 * 3600);
    for now in [
        UNIX_EPOCH,
        fixtures::now(),
        fixtures::now() + 4000 * day,
        UNIX_EPOCH + 3_000_000 * day,
    ] {
        for server in [true, false] {
            match decoders::peer(&bundles, first, rest, server, now) {
                Ok(leaf) => {
                    assert_eq!(leaf.id.as_str(), fixtures::value("id"));
                    assert_eq!(first.as_ref(), &**LEAF, "forged");
                    assert!(leaf.not_before <= now && now <= leaf.not_after);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

fn leaf(der: &[u8]) {
    let facts = decoders::facts(der);
    match Leaf::parse(der) {
        Ok(leaf) => {
            let (not_after, bits, _) = facts.unwrap();
            assert_eq!(not_after, leaf.not_after);
            assert_eq!(leaf.id.as_str().parse().as_ref(), Ok(&leaf.id));
            if let Some(point) = leaf.p256 {
                assert_eq!(point, bits);
                // Somebody else's key has not signed this.
                assert_eq!(
                    token::verify(fixtures::value("token"), der).is_ok(),
                    bits == fixtures::SIGNER.public_point()
                        && leaf.id.as_str() == fixtures::value("id")
                );
            }
        }
        Err(SvidError::Malformed(reason)) => assert!(!reason.is_empty()),
        Err(error) => {
            assert!(facts.is_ok(), "a certificate all the same: {error}");
        }
    }
}
