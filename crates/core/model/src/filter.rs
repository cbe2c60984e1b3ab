//! Packet filter rules of a passthrough endpoint, read from a small YAML file:
//!
//! ```yaml
//! default: deny
//! rules:
//!   - action: allow
//!     direction: from-client
//!     protocol: tcp
//!     from: [172.16.0.0/16]
//!     to: [10.0.0.1]
//!     ports: [80, 8000-8100]
//! ```
//!
//! The first rule that fits the first packet of a flow decides; replies of an allowed flow pass.
//! This is data alone: who turns it into the kernel's tables is elsewhere.

mod read;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use crate::yaml::YamlError;

/// Rules of one file: a list that people can still review; the kernel walks them for each new flow.
pub const MAX_RULES: usize = 1024;

/// Prefixes or ports of one rule.
pub const MAX_ITEMS: usize = 256;

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, and so do its replies.
    Allow,
    /// It is dropped.
    Deny,
}

/// The protocol a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Whichever.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP (IPv4).
    Icmp,
    /// ICMPv6; neighbour discovery is for the filter's maker to let pass.
    Icmp6,
    /// Another one by its IANA number.
    Number(u8),
}

impl Protocol {
    /// The IANA protocol number; `None` for any.
    pub fn number(self) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Icmp => Some(1),
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::Icmp6 => Some(58),
            Self::Number(number) => Some(number),
        }
    }

    /// The protocol with an IANA number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmp6,
            _ => Self::Number(number),
        }
    }

    /// Whether its packets have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmp6 => f.write_str("icmp6"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Which side sends the first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Either side.
    Any,
    /// The client's side.
    FromClient,
    /// The endpoint's side.
    FromEndpoint,
}

/// Destination ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// One rule. An empty list means that it does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of a flow that fits.
    pub verdict: Verdict,
    /// The flow's protocol.
    pub protocol: Protocol,
    /// Which side begins the flow.
    pub direction: Direction,
    /// Where the first packet comes from.
    pub from: Vec<IpNet>,
    /// Where the first packet goes to.
    pub to: Vec<IpNet>,
    /// The first packet's destination port.
    pub ports: Vec<Ports>,
}

/// The rules of a filter, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRules {
    /// What becomes of a flow that no rule fits.
    pub default: Verdict,
    /// The rules; the first that fits decides.
    pub rules: Vec<Rule>,
}

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IANA protocol number.
    pub protocol: u8,
    /// Whether the client's side sends it.
    pub from_client: bool,
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Destination port, if the protocol has ports.
    pub port: Option<u16>,
}

impl FilterRules {
    /// Reads a filter file; an error names the line and, where it can be told, the corrected text.
    pub fn load_yaml(source: &str) -> Result<Self, YamlError> {
        read::load(source)
    }

    /// What becomes of a flow: the meaning of the rules, to hold an implementation against.
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        self.rules
            .iter()
            .find(|rule| rule.fits(flow))
            .map_or(self.default, |rule| rule.verdict)
    }
}

impl Rule {
    /// Whether the rule is about this flow.
    pub fn fits(&self, flow: &Flow) -> bool {
        let within = |prefixes: &[IpNet], address| {
            prefixes.is_empty() || prefixes.iter().any(|p| p.contains(&address))
        };
        let direction = match self.direction {
            Direction::Any => true,
            Direction::FromClient => flow.from_client,
            Direction::FromEndpoint => !flow.from_client,
        };
        let port = |port| {
            self.ports
                .iter()
                .any(|p| (p.first..=p.last).contains(&port))
        };
        direction
            && self
                .protocol
                .number()
                .is_none_or(|number| number == flow.protocol)
            && within(&self.from, flow.from)
            && within(&self.to, flow.to)
            && (self.ports.is_empty() || flow.port.is_some_and(port))
    }
}

#[cfg(test)]
mod tests;
