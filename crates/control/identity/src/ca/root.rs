//! The root of a trust domain: the one place with the root key.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;

use super::{CaError, issue};
use crate::{Identity, identity::Bundles};

/// A root lives for ten years: replacing one means to hand out a new bundle everywhere.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The certificate authority of one trust domain.
#[derive(Debug)]
pub struct Root {
    domain: TrustDomain,
    certificate: CertificateDer<'static>,
    issuer: issue::Issuer,
}

impl Root {
    /// A new root that lives in memory only.
    pub fn generate(domain: TrustDomain) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = issue::self_signed(&domain, &key, SystemTime::now() + ROOT_LIFE)?;
        Ok(Self {
            issuer: issue::Issuer::root(&certificate, key)?,
            domain,
            certificate,
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The trust bundle of the domain.
    pub fn bundles(&self) -> Bundles {
        BTreeMap::from([(self.domain.clone(), vec![self.certificate.clone()])])
    }

    /// A new key and SVID for `id`, valid for `life` from now (rounded up to a second).
    pub fn issue(&self, id: &SpiffeId, life: Duration) -> Result<Arc<Identity>, CaError> {
        self.issue_until(id, SystemTime::now() + life)
    }

    /// As [`Self::issue`], until a point in time, which may have passed.
    pub fn issue_until(&self, id: &SpiffeId, until: SystemTime) -> Result<Arc<Identity>, CaError> {
        self.issue_with(id, until, self.bundles())
    }

    /// As [`Self::issue_until`], with bundles of the caller's choice: federated domains.
    pub fn issue_with(
        &self,
        id: &SpiffeId,
        until: SystemTime,
        bundles: Bundles,
    ) -> Result<Arc<Identity>, CaError> {
        if !id.member_of(&self.domain) {
            return Err(CaError::ForeignId {
                id: id.clone(),
                domain: self.domain.clone(),
            });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let chain = self.issuer.leaf(id, &key, until)?;
        Ok(Identity::new(chain, key.serialize_der(), bundles)?)
    }
}
