//! What an X.509 SVID says: the SPIFFE ID, the life and the key of a leaf certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nsm_model::spiffe::SpiffeId;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    prelude::FromDer as _,
};

/// A certificate larger than this is not an SVID: those of SPIRE and ours are below 1.5 KiB.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// The parts of a leaf certificate that decide who it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The only URI SAN.
    pub id: SpiffeId,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// The uncompressed P-256 point; `None` for a key of another kind.
    pub p256: Option<Vec<u8>>,
}

/// Why a certificate is not the X.509 SVID of a workload (SPIFFE X509-SVID, sections 2 to 5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not a certificate at all.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// A certificate without SPIFFE ID, such as one of an ordinary web server.
    #[error("the certificate of subject {subject:?} has no URI SAN; it is no SPIFFE SVID")]
    NoUri {
        /// The subject as text.
        subject: String,
    },
    /// More than one URI.
    #[error("the certificate has {0} URI SANs; an SVID has exactly one")]
    ManyUris(usize),
    /// The URI is not a SPIFFE ID.
    #[error("the certificate's URI SAN {uri:?} is not a SPIFFE ID: {reason}")]
    BadId {
        /// The URI as presented.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A signing certificate presented as a workload's.
    #[error("the certificate of {0} is a CA; a workload's SVID must not be")]
    IsCa(SpiffeId),
}

impl Leaf {
    /// Reads a leaf certificate in DER; signatures and times are not checked here.
    pub fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let certificate = parse(der)?;
        let id = spiffe_id(&certificate)?;
        if certificate.is_ca() {
            return Err(SvidError::IsCa(id));
        }
        let key = certificate.public_key();
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|p| p.as_oid().ok());
        let p256 = (key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == Some(OID_EC_P256))
        .then(|| key.subject_public_key.data.to_vec());
        let validity = certificate.validity();
        Ok(Self {
            id,
            not_before: system_time(validity.not_before.timestamp()),
            not_after: system_time(validity.not_after.timestamp()),
            p256,
        })
    }
}

/// The end of a certificate's life; also for a CA.
pub(crate) fn not_after(der: &[u8]) -> Result<SystemTime, SvidError> {
    Ok(system_time(parse(der)?.validity().not_after.timestamp()))
}

/// The bits of a certificate's public key.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, SvidError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

/// The common name of a certificate's subject; ours mark the intermediate of a node by it.
pub(crate) fn common_name(der: &[u8]) -> Result<Option<String>, SvidError> {
    let certificate = parse(der)?;
    let name = certificate.subject().iter_common_name().next();
    Ok(name.and_then(|name| name.as_str().ok()).map(str::to_owned))
}

/// Splits DER certificates that stand one after the other, as the Workload API sends them.
pub(crate) fn split(
    mut der: &[u8],
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, SvidError> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der)
            .map_err(|error| SvidError::Malformed(error.to_string()))?;
        all.push(der[..der.len() - rest.len()].to_vec().into());
        der = rest;
    }
    Ok(all)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        return Err(SvidError::Malformed(format!(
            "{} bytes, at most {MAX_CERTIFICATE_BYTES} are read",
            der.len()
        )));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(SvidError::Malformed(format!(
            "{} bytes after its end",
            rest.len()
        ))),
        Err(error) => Err(SvidError::Malformed(error.to_string())),
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| SvidError::Malformed(error.to_string()))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name {
            uris.push(*uri);
        }
    }
    match uris[..] {
        [uri] => uri
            .parse()
            .map_err(|error: nsm_model::spiffe::SpiffeError| SvidError::BadId {
                uri: uri.to_owned(),
                reason: error.to_string(),
            }),
        [] => Err(SvidError::NoUri {
            subject: certificate.subject().to_string(),
        }),
        _ => Err(SvidError::ManyUris(uris.len())),
    }
}

fn system_time(seconds: i64) -> SystemTime {
    // Before 1970 counts as 1970: expired in either case.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
