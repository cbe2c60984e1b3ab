//! Network service URLs, in which a client writes what it wants (upstream `tools/nsurl`):
//! `kernel://[service | service@domain]/[interface][?label=value&...]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use nsm_api::connection::Mechanism;

use crate::ifname::{IfName, IfNameError};
use crate::labels::Labels;
use crate::mechanism::{Kernel, Kind, keys};
use crate::name::DomainName;

mod percent;

/// Schemes a client can ask for, for error messages.
const SCHEMES: &str = "kernel, memif, vfio, noop";

/// A parsed network service URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsUrl {
    /// The scheme, as a mechanism within the node.
    pub mechanism: Kind,
    /// The service, perhaps with a domain.
    pub service: DomainName,
    /// The interface's name in the workload; one is generated if absent.
    pub interface: Option<IfName>,
    /// Labels of the connection; values of a repeated key are joined by ','.
    pub labels: Labels,
}

/// Why a text is not a network service URL; every message names the URL and the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network service URL {url:?}: {field}: {reason}")]
pub struct NsUrlError {
    /// The URL as given.
    pub url: String,
    /// The field that is wrong: scheme, service, interface or labels.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl NsUrl {
    /// What goes into a Request: the mechanism preference, the service's name and the labels.
    pub fn into_request_parts(self) -> (Mechanism, String, Labels) {
        let mut mechanism = self.mechanism.mechanism();
        match (&self.mechanism, self.interface) {
            (Kind::Kernel, name) => Kernel {
                name,
                ..Kernel::default()
            }
            .write(&mut mechanism),
            (_, Some(name)) => {
                mechanism
                    .parameters
                    .insert(keys::NAME.to_owned(), name.to_string());
            }
            (_, None) => {}
        }
        (mechanism, self.service.to_string(), self.labels)
    }

    /// Reads a comma-separated list, the form of `NSM_NETWORK_SERVICES`; empty items are skipped.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, NsUrlError> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::parse)
            .collect()
    }
}

impl fmt::Display for NsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.mechanism.as_str().to_ascii_lowercase())?;
        percent::encode(f, &self.service.name)?;
        if let Some(domain) = &self.service.domain {
            f.write_str("@")?;
            percent::encode(f, domain)?;
        }
        if let Some(name) = &self.interface {
            f.write_str("/")?;
            percent::encode(f, name.as_str())?;
        }
        let mut separator = '?';
        for (key, value) in &self.labels {
            write!(f, "{separator}")?;
            percent::encode(f, key)?;
            f.write_str("=")?;
            percent::encode(f, value)?;
            separator = '&';
        }
        Ok(())
    }
}

impl FromStr for NsUrl {
    type Err = NsUrlError;

    fn from_str(text: &str) -> Result<Self, NsUrlError> {
        parse(text).map_err(|(field, reason)| NsUrlError {
            url: text.to_owned(),
            field,
            reason,
        })
    }
}

/// The field that is wrong, and why.
type Wrong = (&'static str, String);

fn parse(text: &str) -> Result<NsUrl, Wrong> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        (
            "scheme",
            "is missing: write kernel://<service>/<interface>".to_owned(),
        )
    })?;
    let mechanism = mechanism(scheme)?;
    if let Some(at) = rest.find('#') {
        return Err((
            "labels",
            format!(
                "'#' at position {} is not allowed: write %23",
                text.len() - rest.len() + at
            ),
        ));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(NsUrl {
        mechanism,
        service: service(host)?,
        interface: interface(path)?,
        labels: labels(query)?,
    })
}

fn mechanism(scheme: &str) -> Result<Kind, Wrong> {
    match Kind::parse(&scheme.to_ascii_uppercase()) {
        kind @ (Kind::Kernel | Kind::Memif | Kind::Vfio | Kind::Noop) => Ok(kind),
        Kind::Other(_) => Err((
            "scheme",
            format!("mechanism {scheme:?} is unknown: use one of {SCHEMES}"),
        )),
        Kind::Vxlan | Kind::Wireguard | Kind::Ipsec | Kind::Srv6 | Kind::Vlan => Err((
            "scheme",
            format!(
                "mechanism {scheme:?} is between nodes, not for a client: use one of {SCHEMES}"
            ),
        )),
    }
}

fn service(host: &str) -> Result<DomainName, Wrong> {
    let decoded = percent::decode(host, false).map_err(|reason| ("service", reason))?;
    let name = DomainName::parse(&decoded);
    if name.name.is_empty() {
        return Err((
            "service",
            "is empty: write kernel://<service>/<interface>".to_owned(),
        ));
    }
    if name.domain.as_deref() == Some("") {
        return Err(("service", format!("{decoded:?} has no domain after '@'")));
    }
    match decoded
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?'))
    {
        Some(c) => Err(("service", format!("{decoded:?} contains {c:?}"))),
        None => Ok(name),
    }
}

/// The last element of the path, as upstream takes it.
fn interface(path: &str) -> Result<Option<IfName>, Wrong> {
    let last = path.rsplit('/').next().unwrap_or("");
    let decoded = percent::decode(last, false).map_err(|reason| ("interface", reason))?;
    match decoded.parse::<IfName>() {
        Ok(name) => Ok(Some(name)),
        Err(IfNameError::Empty) => Ok(None),
        Err(error) => Err(("interface", error.to_string())),
    }
}

fn labels(query: &str) -> Result<Labels, Wrong> {
    let mut labels = BTreeMap::<String, String>::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = percent::decode(key, true).map_err(|reason| ("labels", reason))?;
        let value = percent::decode(value, true).map_err(|reason| ("labels", reason))?;
        if key.is_empty() {
            return Err((
                "labels",
                format!("{pair:?} has no name before '=': write ?label=value"),
            ));
        }
        labels
            .entry(key)
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests;
