//! SPIFFE IDs and trust domains (SPIFFE-ID standard, sections 2 and 4).

use std::fmt;
use std::str::FromStr;

/// The standard's upper bound for an ID, in bytes (SPIFFE-ID section 2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// The standard's upper bound for a trust domain name, in bytes (SPIFFE-ID section 2.1).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// Why a text is not a SPIFFE ID or a trust domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The text does not begin with `spiffe://`.
    #[error("SPIFFE ID {0:?} must begin with \"spiffe://\"")]
    Scheme(String),
    /// More than [`MAX_ID_BYTES`].
    #[error("SPIFFE ID has {0} bytes, at most {MAX_ID_BYTES} are allowed")]
    IdTooLong(usize),
    /// No trust domain.
    #[error("trust domain is empty: write spiffe://<trust domain>/<path>")]
    EmptyTrustDomain,
    /// More than [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("trust domain has {0} bytes, at most {MAX_TRUST_DOMAIN_BYTES} are allowed")]
    TrustDomainTooLong(usize),
    /// A character outside a-z, 0-9, '.', '-', '_'.
    #[error(
        "trust domain {name:?} contains {character:?}: only a-z, 0-9, '.', '-' and '_' are allowed"
    )]
    TrustDomainCharacter {
        /// The name as given.
        name: String,
        /// Its first character that is not allowed.
        character: char,
    },
    /// An empty, "." or ".." path segment, or a trailing slash.
    #[error(
        "SPIFFE ID path {path:?} has the segment {segment:?}: segments must not be empty, \".\" or \"..\""
    )]
    PathSegment {
        /// The path as given.
        path: String,
        /// The offending segment.
        segment: String,
    },
    /// A character outside a-z, A-Z, 0-9, '.', '-', '_'.
    #[error(
        "SPIFFE ID path {path:?} contains {character:?}: only letters, digits, '.', '-' and '_' are allowed"
    )]
    PathCharacter {
        /// The path as given.
        path: String,
        /// Its first character that is not allowed.
        character: char,
    },
}

/// A trust domain name such as `example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    /// Accepts the bare name and, as SPIRE's tools do, `spiffe://name`.
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        check_trust_domain(name)?;
        Ok(Self(name.to_owned()))
    }
}

/// A workload's identity, `spiffe://<trust domain>[/<path>]`, valid by construction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: String,
    path_at: usize,
}

impl SpiffeId {
    /// The whole ID as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain that vouches for the ID.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path_at].to_owned())
    }

    /// The path with its leading slash, or "" for the ID of the trust domain itself.
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }

    /// Whether the ID belongs to `domain`, without a copy.
    pub fn member_of(&self, domain: &TrustDomain) -> bool {
        self.text[SCHEME.len()..self.path_at] == domain.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeError::IdTooLong(text.len()));
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| SpiffeError::Scheme(text.to_owned()))?;
        let path_at = rest.find('/').unwrap_or(rest.len());
        check_trust_domain(&rest[..path_at])?;
        check_path(&rest[path_at..])?;
        Ok(Self {
            text: text.to_owned(),
            path_at: SCHEME.len() + path_at,
        })
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeError> {
    if name.is_empty() {
        return Err(SpiffeError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(SpiffeError::TrustDomainTooLong(name.len()));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    match name.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(SpiffeError::TrustDomainCharacter {
            name: name.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), SpiffeError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    for segment in segments.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(SpiffeError::PathSegment {
                path: path.to_owned(),
                segment: segment.to_owned(),
            });
        }
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/.-_".contains(c);
    match path.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(SpiffeError::PathCharacter {
            path: path.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_splits() {
        for (text, domain, path) in [
            (
                "spiffe://example.org/ns/default/sa/nsc",
                "example.org",
                "/ns/default/sa/nsc",
            ),
            ("spiffe://example.org", "example.org", ""),
            ("spiffe://a_b-1.c/X.Y", "a_b-1.c", "/X.Y"),
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!((id.trust_domain().as_str(), id.path()), (domain, path));
            assert_eq!(id.to_string(), text);
            assert!(id.member_of(&domain.parse().unwrap()));
        }
    }

    #[test]
    fn refuses() {
        for (text, says) in [
            ("http://example.org/a", "must begin with"),
            ("SPIFFE://example.org/a", "must begin with"),
            ("spiffe:///a", "trust domain is empty"),
            ("spiffe://Example.org/a", "contains 'E'"),
            ("spiffe://example.org:80/a", "contains ':'"),
            ("spiffe://user@example.org/a", "contains '@'"),
            ("spiffe://example.org/", "segment \"\""),
            ("spiffe://example.org/a/", "segment \"\""),
            ("spiffe://example.org/a//b", "segment \"\""),
            ("spiffe://example.org/../b", "segment \"..\""),
            ("spiffe://example.org/a?b", "contains '?'"),
            ("spiffe://example.org/a%20b", "contains '%'"),
        ] {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let long = format!("spiffe://example.org/{}", "a".repeat(MAX_ID_BYTES));
        assert_eq!(
            long.parse::<SpiffeId>().unwrap_err(),
            SpiffeError::IdTooLong(long.len())
        );
        let domain = "a".repeat(256);
        assert_eq!(
            domain.parse::<TrustDomain>().unwrap_err(),
            SpiffeError::TrustDomainTooLong(256)
        );
    }
}
