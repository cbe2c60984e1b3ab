//! A pattern of SPIFFE IDs: as much of a glob as can be read at a glance.

use std::{fmt, str::FromStr};

use crate::spiffe::{MAX_ID_BYTES, SpiffeId, TrustDomain};

const SCHEME: &str = "spiffe://";

/// `/ns/shop/pod/web-*` of the own trust domain, or `spiffe://other.org/ns/**` of another one.
///
/// A segment of the path is a text in which one `*` may stand for any characters of that segment,
/// none included. `**` as the last segment stands for one segment or more. Nothing else is special,
/// and the trust domain is never a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    domain: Option<TrustDomain>,
    segments: Vec<Segment>,
    /// Ends in `**`.
    open: bool,
}

/// What one segment must begin and end with; equal to `head` where there is no `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    head: String,
    tail: Option<String>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither a path nor an ID.
    #[error("must begin with \"/\" (a path of the own trust domain) or with \"spiffe://\"")]
    Beginning,
    /// It could match nothing.
    #[error("has {0} bytes, a SPIFFE ID has at most {MAX_ID_BYTES}")]
    TooLong(usize),
    /// The trust domain.
    #[error("{0}")]
    Domain(String),
    /// Only the trust domain is named.
    #[error("has no path: write /** after the trust domain for all of it")]
    NoPath,
    /// An empty segment, or one that no SPIFFE ID has.
    #[error("has the segment {0:?}, which no SPIFFE ID has")]
    Segment(String),
    /// A character that no SPIFFE ID has.
    #[error("contains {0:?}: a SPIFFE ID has letters, digits, '.', '-' and '_'")]
    Character(char),
    /// More than one `*` in a segment.
    #[error("has more than one \"*\" in the segment {0:?}")]
    Stars(String),
    /// `**` that is not the last segment.
    #[error("has \"**\" before its end: it stands for all that follows")]
    Middle,
}

impl Pattern {
    /// Whether an ID fits; `own` is the trust domain of a pattern that names none.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId, own: &TrustDomain) -> bool {
        if !id.member_of(self.domain.as_ref().unwrap_or(own)) {
            return false;
        }
        let mut path = id.path().split('/').skip(1);
        let begins = self
            .segments
            .iter()
            .all(|segment| path.next().is_some_and(|text| segment.matches(text)));
        begins && path.next().is_some() == self.open
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if matches!(text, "" | "." | "..") {
            return Err(PatternError::Segment(text.to_owned()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_*".contains(c);
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(PatternError::Character(character));
        }
        let (head, tail) = match text.split_once('*') {
            None => (text, None),
            Some((_, tail)) if tail.contains('*') => {
                return Err(PatternError::Stars(text.to_owned()));
            }
            Some((head, tail)) => (head, Some(tail.to_owned())),
        };
        let head = head.to_owned();
        Ok(Self { head, tail })
    }

    fn matches(&self, text: &str) -> bool {
        let Some(tail) = &self.tail else {
            return text == self.head;
        };
        let rest = text.strip_prefix(self.head.as_str());
        rest.is_some_and(|rest| rest.ends_with(tail.as_str()))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_ID_BYTES {
            return Err(PatternError::TooLong(text.len()));
        }
        let (domain, path) = match text.strip_prefix(SCHEME) {
            None => (None, text.strip_prefix('/').ok_or(PatternError::Beginning)?),
            Some(rest) => {
                let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
                let domain = domain.parse();
                let domain = domain.map_err(|error: crate::spiffe::SpiffeError| {
                    PatternError::Domain(error.to_string())
                })?;
                (Some(domain), path)
            }
        };
        if path.is_empty() {
            return Err(PatternError::NoPath);
        }
        let mut texts: Vec<&str> = path.split('/').collect();
        let open = texts.last() == Some(&"**");
        if open {
            texts.pop();
        }
        if texts.contains(&"**") {
            return Err(PatternError::Middle);
        }
        let segments = texts.into_iter().map(Segment::parse);
        Ok(Self {
            domain,
            segments: segments.collect::<Result<_, _>>()?,
            open,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "{SCHEME}{domain}")?;
        }
        for Segment { head, tail } in &self.segments {
            write!(f, "/{head}")?;
            if let Some(tail) = tail {
                write!(f, "*{tail}")?;
            }
        }
        f.write_str(if self.open { "/**" } else { "" })
    }
}
