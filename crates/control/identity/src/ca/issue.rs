//! The certificates that the built-in authority makes, and who may sign them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;

use super::CaError;
use crate::{Bundles, Identity, svid};

/// Certificates begin this much in the past, so that a peer whose clock is a little slow accepts
/// them.
const BACKDATE: Duration = Duration::from_secs(60);

/// RFC 5280 allows 20 octets; 16 random ones cannot collide.
const SERIAL_BYTES: usize = 16;

/// A signing certificate with its key.
pub(crate) struct Issuer {
    /// From this issuer's certificate up to, without, the root; empty for the root.
    chain: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
    inner: rcgen::Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// The root itself: its certificate is in the bundle, never in a chain.
    pub(crate) fn root(
        certificate: &CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, CaError> {
        Self::new(certificate, Vec::new(), key)
    }

    /// An intermediate: `chain` begins with its certificate.
    pub(crate) fn intermediate(
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
    ) -> Result<Self, CaError> {
        let first = chain.first().cloned().ok_or(CaError::EmptyChain)?;
        Self::new(&first, chain, key)
    }

    fn new(
        certificate: &CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
    ) -> Result<Self, CaError> {
        if svid::public_key(certificate)? != key.public_key_raw() {
            return Err(CaError::KeyMismatch);
        }
        let not_after = svid::not_after(certificate)?;
        Ok(Self {
            chain,
            not_after,
            inner: rcgen::Issuer::from_ca_cert_der(certificate, key)?,
        })
    }

    /// The end of this issuer's own life, which cuts that of all it signs.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A new key and certificate for `id`.
    pub(crate) fn identity(
        &self,
        id: &SpiffeId,
        until: SystemTime,
        bundles: Bundles,
    ) -> Result<Arc<Identity>, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let chain = self.leaf(id, &key, until)?;
        Ok(Identity::new(chain, key.serialize_der(), bundles)?)
    }

    /// A workload's certificate with the chain that it presents; `until` is cut to the issuer's
    /// life.
    pub(crate) fn leaf(
        &self,
        id: &SpiffeId,
        key: &impl PublicKeyData,
        until: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let mut params = params(None, until.min(self.not_after))?;
        params.subject_alt_names = vec![SanType::URI(id.to_string().as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        self.signed(&params, key)
    }

    /// A node's intermediate: it signs leaves, not further authorities.
    pub(crate) fn authority(
        &self,
        common_name: &str,
        key: &impl PublicKeyData,
        until: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let mut params = params(Some(common_name), until.min(self.not_after))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        self.signed(&params, key)
    }

    fn signed(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let certificate = params.signed_by(key, &self.inner)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(chain)
    }
}

/// The common name of a root.
pub(crate) fn root_name(domain: &TrustDomain) -> String {
    format!("{domain} root")
}

/// The self-signed certificate of a trust domain.
pub(crate) fn self_signed(
    domain: &TrustDomain,
    key: &KeyPair,
    until: SystemTime,
) -> Result<CertificateDer<'static>, CaError> {
    let mut params = params(Some(&root_name(domain)), until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = format!("spiffe://{domain}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    Ok(params.self_signed(key)?.der().clone())
}

fn params(common_name: Option<&str>, until: SystemTime) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "nsm");
    if let Some(common_name) = common_name {
        name.push(DnType::CommonName, common_name);
    }
    params.distinguished_name = name;
    params.not_before = (SystemTime::now() - BACKDATE).into();
    params.not_after = whole_second(until).into();
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| CaError::Random)?;
    // A serial number is positive.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Certificates know whole seconds; a short life is rounded up, not down to nothing.
fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + u64::from(since.subsec_nanos() > 0))
}
