//! Answers of a SPIFFE agent.

use nsm_identity::{
    decoders, token,
    workload::{JWTBundlesResponse, X509BundlesResponse, X509SVIDResponse},
};

use crate::{connection::stable, fixtures};

/// An X509SVIDResponse, from which an identity is made; the bundles' messages beside it.
pub fn workload_api(data: &[u8]) {
    stable::<X509BundlesResponse>(data);
    stable::<JWTBundlesResponse>(data);
    let Some(message) = stable::<X509SVIDResponse>(data) else {
        return;
    };
    let said = message.svids.first().map(|svid| svid.spiffe_id.clone());
    let identity = match decoders::agent_answer(message) {
        Ok(identity) => identity,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    assert_eq!(said.as_deref(), Some(identity.id().as_str()));
    let own = identity.id().trust_domain();
    assert!(
        identity
            .bundles()
            .get(&own)
            .is_some_and(|roots| !roots.is_empty())
    );
    let shown = format!("{identity:?}");
    assert!(shown.contains("hidden") && shown.contains(identity.id().as_str()));
    for (domain, bundle) in decoders::bundles(identity.bundles()) {
        let roots = &identity.bundles()[&domain.parse().unwrap()];
        assert_eq!(decoders::chain(&bundle).as_ref(), Ok(roots));
    }
    // Key and certificate belong together.
    let (id, until) = (identity.id(), fixtures::now());
    let jwt = identity.signer().sign(id, id, until).unwrap();
    assert_eq!(
        token::verify(&jwt, identity.leaf()).unwrap().sub,
        id.as_str()
    );
}
