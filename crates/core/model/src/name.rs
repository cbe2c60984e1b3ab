//! Names of services and endpoints that may carry a domain: `service@domain`.

use std::fmt;
use std::str::FromStr;

/// A name split at its first `@` (upstream `tools/interdomain`); printing gives the text back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DomainName {
    /// What the domain's own registry calls it.
    pub name: String,
    /// The domain, if the name is not of the local one. `Some("")` for a trailing `@`.
    pub domain: Option<String>,
}

impl DomainName {
    /// Splits `text`; every text is a name.
    pub fn parse(text: &str) -> Self {
        match text.split_once('@') {
            Some((name, domain)) => Self {
                name: name.to_owned(),
                domain: Some(domain.to_owned()),
            },
            None => Self {
                name: text.to_owned(),
                domain: None,
            },
        }
    }

    /// Whether the name carries a domain.
    pub fn is_remote(&self) -> bool {
        self.domain.is_some()
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{}@{domain}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for DomainName {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_at_and_prints_back() {
        for (text, name, domain) in [
            ("vpn", "vpn", None),
            ("vpn@cluster2", "vpn", Some("cluster2")),
            ("vpn@my.cluster3@x", "vpn", Some("my.cluster3@x")),
            ("vpn@", "vpn", Some("")),
            ("", "", None),
        ] {
            let parsed = DomainName::parse(text);
            assert_eq!(
                (parsed.name.as_str(), parsed.domain.as_deref()),
                (name, domain)
            );
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.is_remote(), domain.is_some());
        }
    }
}
