//! Verification of a peer by the rules of SPIFFE X509-SVID, section 5.

use std::{
    error::Error as StdError,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{Expect, provider};
use crate::{
    IdentitySource,
    identity::Bundles,
    svid::{Leaf, SvidError},
};

/// Why a peer's certificate is refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The leaf is no SVID.
    #[error("the peer is refused: {0}")]
    Svid(#[from] SvidError),
    /// No bundle for the peer's trust domain.
    #[error(
        "{peer} is refused: its trust domain is foreign, this side trusts {trusted}; \
         federate the two, or give both their SVIDs from one authority"
    )]
    ForeignDomain {
        /// Who asked.
        peer: SpiffeId,
        /// The trust domains with a bundle, comma separated.
        trusted: String,
    },
    /// Out of date.
    #[error(
        "{peer} is refused: its SVID expired at {at}, {ago} ago; \
         see whether its agent still renews, and the clocks of both machines"
    )]
    Expired {
        /// Who asked.
        peer: SpiffeId,
        /// RFC 3339.
        at: String,
        /// For people.
        ago: String,
    },
    /// From the future.
    #[error("{peer} is refused: its SVID is valid from {at} only; set the clocks of both machines")]
    NotYetValid {
        /// Who asked.
        peer: SpiffeId,
        /// RFC 3339.
        at: String,
    },
    /// Not signed by the authority of its domain.
    #[error(
        "{peer} is refused: its chain does not lead to the bundle of its trust domain: {reason}"
    )]
    Chain {
        /// Who asked.
        peer: SpiffeId,
        /// From the path builder.
        reason: String,
    },
    /// Somebody else answered.
    #[error("{peer} answered where {expected} was expected; see which process holds that address")]
    Unexpected {
        /// Who is there.
        peer: SpiffeId,
        /// Who should be.
        expected: SpiffeId,
    },
    /// Authentic, but not allowed.
    #[error("{0} is not allowed here")]
    NotAllowed(SpiffeId),
}

/// rustls prints the inner error of a refused certificate as its debug form, so that has to be
/// readable.
impl fmt::Debug for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What to tell the operator about a failed handshake: why a certificate was refused, else the
/// error's own text.
pub fn explain(error: &(dyn StdError + 'static)) -> String {
    inner(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The reason inside a TLS or I/O error, when it is one of ours.
pub fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a VerifyError> {
    inner(error)?.downcast_ref()
}

/// What a verifier said, below the layers of rustls and std.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if error.is::<VerifyError>() {
        return Some(error);
    }
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
        error.downcast_ref::<rustls::Error>()
    {
        return Some(&**inner);
    }
    let io = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    match io {
        Some(wrapped) => inner(wrapped),
        None => error.source().and_then(inner),
    }
}

/// Verifies a chain at `now` against the bundle of the leaf's own trust domain.
pub(crate) fn verify_chain(
    bundles: &Bundles,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    usage: KeyUsage,
    now: SystemTime,
) -> Result<Leaf, VerifyError> {
    let facts = Leaf::parse(leaf)?;
    let roots = bundles
        .get(&facts.id.trust_domain())
        .filter(|roots| !roots.is_empty());
    let Some(roots) = roots else {
        return Err(VerifyError::ForeignDomain {
            trusted: list(bundles.keys()),
            peer: facts.id,
        });
    };
    check_times(&facts, now)?;
    let chain_error = |reason: String| VerifyError::Chain {
        peer: facts.id.clone(),
        reason,
    };
    let anchors: Vec<_> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    EndEntityCert::try_from(leaf)
        .and_then(|cert| {
            let algorithms = provider().signature_verification_algorithms.all;
            let time = UnixTime::since_unix_epoch(since);
            cert.verify_for_usage(algorithms, &anchors, intermediates, time, usage, None, None)?;
            Ok(())
        })
        .map_err(|error| chain_error(error.to_string()))?;
    Ok(facts)
}

fn check_times(leaf: &Leaf, now: SystemTime) -> Result<(), VerifyError> {
    if now < leaf.not_before {
        return Err(VerifyError::NotYetValid {
            peer: leaf.id.clone(),
            at: crate::time::rfc3339(leaf.not_before),
        });
    }
    match now.duration_since(leaf.not_after) {
        Ok(ago) if !ago.is_zero() => Err(VerifyError::Expired {
            peer: leaf.id.clone(),
            at: crate::time::rfc3339(leaf.not_after),
            ago: humantime::format_duration(Duration::from_secs(ago.as_secs())).to_string(),
        }),
        _ => Ok(()),
    }
}

fn list<'a>(domains: impl Iterator<Item = &'a TrustDomain>) -> String {
    domains
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The verifier of both sides of a connection.
#[derive(Debug)]
pub(crate) struct Verifier {
    source: IdentitySource,
    expect: Expect,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// `mandatory` off lets a client without certificate in; only the authority's Join needs that.
    pub(crate) fn new(source: &IdentitySource, expect: Expect, mandatory: bool) -> Arc<Self> {
        Arc::new(Self {
            source: source.clone(),
            expect,
            mandatory,
            algorithms: provider().signature_verification_algorithms,
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let identity = self.source.current();
        let peer = verify_chain(identity.bundles(), leaf, intermediates, usage, now)?.id;
        match &self.expect {
            Expect::Any => Ok(()),
            Expect::Id(expected) if *expected == peer => Ok(()),
            Expect::Id(expected) => Err(VerifyError::Unexpected {
                peer,
                expected: expected.clone(),
            }),
            Expect::Check(allowed) if allowed(&peer) => Ok(()),
            Expect::Check(_) => Err(VerifyError::NotAllowed(peer)),
        }
    }
}

fn tls_error(error: VerifyError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::server_auth(), now)
            .map_err(tls_error)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), now)
            .map_err(tls_error)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
