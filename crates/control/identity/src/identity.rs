//! Who this process is, now and after the next rotation.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{
    svid::{Leaf, SvidError},
    token::{Signer, TokenError},
};

/// The roots that this process trusts, by trust domain: its own and the federated ones.
pub type Bundles = BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>;

/// Why certificate, key and bundles do not make an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The chain has no leaf.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// The leaf is no SVID.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The key does not serve for ES256 tokens.
    #[error(
        "the key of {id} is not usable: {reason}; configure the agent to issue EC P-256 keys (ec-p256)"
    )]
    Key {
        /// Whose key.
        id: SpiffeId,
        /// What is wrong.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key given for {0} is not the key of its certificate")]
    KeyMismatch(SpiffeId),
    /// Without roots nobody can be verified.
    #[error("no trust bundle for {0}, the identity's own trust domain")]
    NoBundle(TrustDomain),
}

/// One SVID with its key and the trust bundles that came with it; immutable.
pub struct Identity {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
    bundles: Bundles,
    certified: Arc<CertifiedKey>,
    signer: Signer,
}

impl Identity {
    /// Builds an identity from a chain (leaf first, DER), a P-256 key in PKCS#8 and bundles by
    /// trust domain.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        pkcs8: Vec<u8>,
        bundles: Bundles,
    ) -> Result<Arc<Self>, IdentityError> {
        let leaf = Leaf::parse(chain.first().ok_or(IdentityError::EmptyChain)?)?;
        let id = leaf.id;
        let domain = id.trust_domain();
        if bundles.get(&domain).is_none_or(Vec::is_empty) {
            return Err(IdentityError::NoBundle(domain));
        }
        let bad_key = |reason: String| IdentityError::Key {
            id: id.clone(),
            reason,
        };
        let signer = Signer::new(&pkcs8).map_err(|error: TokenError| bad_key(error.to_string()))?;
        if leaf.p256.as_deref() != Some(signer.public_point()) {
            return Err(IdentityError::KeyMismatch(id));
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let signing = rustls::crypto::ring::sign::any_ecdsa_type(&key)
            .map_err(|error| bad_key(error.to_string()))?;
        let certified = Arc::new(CertifiedKey::new(chain.clone(), signing));
        Ok(Arc::new(Self {
            id,
            chain,
            key,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            bundles,
            certified,
            signer,
        }))
    }

    /// The SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificate chain, leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf certificate in DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        // `new` refuses an empty chain.
        &self.chain[0]
    }

    /// The private key, PKCS#8.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the leaf ceases to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The trust bundles by trust domain.
    pub fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    /// Certificate and key as rustls presents them.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Signs ES256 tokens with this identity's key.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What is left of the leaf's life at `now`; zero when it is over.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id.to_string())
            .field("not_after", &crate::time::rfc3339(self.not_after))
            .field(
                "trust_domains",
                &self
                    .bundles
                    .keys()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            )
            .field("key", &"hidden")
            .finish()
    }
}

/// A handle to the identity in use; cheap to clone, each clone notices changes on its own.
#[derive(Clone, Debug)]
pub struct IdentitySource(watch::Receiver<Arc<Identity>>);

impl IdentitySource {
    /// A source that its publisher moves on.
    pub fn channel(first: Arc<Identity>) -> (IdentityPublisher, Self) {
        let (sender, receiver) = watch::channel(first);
        (IdentityPublisher(sender), Self(receiver))
    }

    /// A source that never changes.
    pub fn fixed(identity: Arc<Identity>) -> Self {
        Self::channel(identity).1
    }

    /// The identity in use now.
    pub fn current(&self) -> Arc<Identity> {
        self.0.borrow().clone()
    }

    /// Waits for the next identity; for ever when the publisher is gone.
    pub async fn changed(&mut self) -> Arc<Identity> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }
}

/// The writing end of an [`IdentitySource`].
#[derive(Debug)]
pub struct IdentityPublisher(watch::Sender<Arc<Identity>>);

impl IdentityPublisher {
    /// Replaces the identity in use.
    pub fn publish(&self, identity: Arc<Identity>) {
        self.0.send_replace(identity);
    }
}
