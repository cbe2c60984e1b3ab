//! Certificates as PEM (RFC 7468), which operators can read with any tool.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// RFC 7468, section 2: lines of 64 characters.
const LINE: usize = 64;

/// All certificates, one after the other.
pub(crate) fn encode(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = STANDARD.encode(der);
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// All certificates of a file; the error says what is wrong with it.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| format!("{error:?}"))?;
    if all.is_empty() {
        Err("it contains no certificate in PEM".to_owned())
    } else {
        Ok(all)
    }
}
