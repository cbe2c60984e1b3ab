//! How a joining node, which has no bundle yet, verifies the authority.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::KeyUsage;

use crate::{
    Bundles,
    ca::{
        authority::AUTHORITY_PATH,
        join_token::{Fingerprint, fingerprint},
    },
    svid::Leaf,
    tls,
};

/// How a node that has nothing yet knows the authority.
#[derive(Debug)]
pub(super) enum Trust {
    Roots(Vec<CertificateDer<'static>>),
    Fingerprint(Fingerprint),
}

impl Trust {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let error = |text: String| {
            let inner = Box::<dyn std::error::Error + Send + Sync>::from(text);
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(inner))))
        };
        let roots = match self {
            Self::Roots(roots) => roots.clone(),
            Self::Fingerprint(known) => {
                let root = chain
                    .iter()
                    .find(|certificate| fingerprint(certificate) == *known);
                let refused = || {
                    error(
                        "its root is not the one whose fingerprint is in the join token".to_owned(),
                    )
                };
                vec![root.ok_or_else(refused)?.clone().into_owned()]
            }
        };
        let id = Leaf::parse(leaf).map_err(|e| error(e.to_string()))?.id;
        let bundles = Bundles::from([(id.trust_domain(), roots)]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        tls::verify_chain(&bundles, leaf, chain, KeyUsage::server_auth(), now)
            .map_err(|e| error(e.to_string()))?;
        if id.path() == AUTHORITY_PATH {
            Ok(())
        } else {
            Err(error(format!("{id} is not an authority")))
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
