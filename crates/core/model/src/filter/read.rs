//! The filter's YAML file.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Direction, FilterRules, MAX_ITEMS, MAX_RULES, Ports, Protocol, Rule, Verdict};
use crate::yaml::{Key, Node, Value, YamlError, documents};

pub(super) fn load(source: &str) -> Result<FilterRules, YamlError> {
    let documents = documents(source)?;
    let [document] = documents.as_slice() else {
        let line = documents.get(1).map_or(1, |second| second.line);
        let message = format!(
            "a filter file holds one document, this one holds {}",
            documents.len()
        );
        return Err(YamlError::new(line, message).hint("default: deny"));
    };
    let mut fields = document.fields("the filter")?;
    let default = verdict(fields.required("default", "deny")?, "default")?;
    let items = fields
        .get("rules")
        .map_or(Ok(&[][..]), |node| node.items("rules"))?;
    if let Some(first_beyond) = items.get(MAX_RULES) {
        let message = format!("{} rules, at most {MAX_RULES} are read", items.len());
        return Err(YamlError::new(first_beyond.line, message));
    }
    let rules = items.iter().map(rule).collect::<Result<_, _>>()?;
    fields.finish()?;
    Ok(FilterRules { default, rules })
}

fn rule(item: &Node) -> Result<Rule, YamlError> {
    let mut fields = item.fields("a rule")?;
    let verdict = verdict(fields.required("action", "allow")?, "action")?;
    let protocol = fields.get("protocol").map_or(Ok(Protocol::Any), protocol)?;
    let direction = fields
        .get("direction")
        .map_or(Ok(Direction::Any), direction)?;
    let from = list(fields.entry("from"), "from", prefix)?;
    let to = list(fields.entry("to"), "to", prefix)?;
    let ports_entry = fields.entry("ports");
    let ports = list(ports_entry, "ports", ports)?;
    let line = fields.line;
    fields.finish()?;
    if let Some((key, _)) = ports_entry.filter(|_| !protocol.has_ports()) {
        let message = format!("ports need a protocol that has them, but protocol is {protocol}");
        return Err(YamlError::new(key.line, message).hint("protocol: tcp"));
    }
    let rule = Rule {
        verdict,
        protocol,
        direction,
        from,
        to,
        ports,
    };
    match other_family(&rule) {
        Some(message) => Err(YamlError::new(line, message)),
        None => Ok(rule),
    }
}

/// A rule that mixes families in a way that no packet can fit.
fn other_family(rule: &Rule) -> Option<String> {
    let (protocol, wanted) = match rule.protocol {
        Protocol::Icmp => (rule.protocol, false),
        Protocol::Icmp6 => (rule.protocol, true),
        Protocol::Any | Protocol::Tcp | Protocol::Udp | Protocol::Number(_) => {
            let fits = |f: &IpNet| rule.to.iter().any(|t| v6(t) == v6(f));
            let never = !rule.from.is_empty() && !rule.to.is_empty() && !rule.from.iter().any(fits);
            return never.then(|| {
                "\"from\" and \"to\" are of different IP versions: no packet fits".to_owned()
            });
        }
    };
    let wrong = rule
        .from
        .iter()
        .chain(&rule.to)
        .find(|prefix| v6(prefix) != wanted)?;
    Some(format!(
        "{wrong} is of another IP version than {protocol}: no packet fits"
    ))
}

fn v6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

fn verdict(node: &Node, what: &str) -> Result<Verdict, YamlError> {
    match word(node, what)? {
        "allow" => Ok(Verdict::Allow),
        "deny" => Ok(Verdict::Deny),
        text => {
            let message = format!("{what} is {text:?}: it can be allow or deny");
            let error = YamlError::new(node.line, message);
            let right = match text.to_lowercase().as_str() {
                "allow" | "accept" | "pass" | "permit" => "allow",
                "deny" | "drop" | "reject" | "block" => "deny",
                _ => return Err(error),
            };
            Err(error.hint(format!("{what}: {right}")))
        }
    }
}

fn protocol(node: &Node) -> Result<Protocol, YamlError> {
    match word(node, "protocol")? {
        "any" => Ok(Protocol::Any),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        "icmp6" => Ok(Protocol::Icmp6),
        text => text.parse().map(Protocol::from_number).map_err(|_| {
            let message = format!(
                "protocol is {text:?}: it can be any, tcp, udp, icmp, icmp6 or a number up to 255"
            );
            let error = YamlError::new(node.line, message);
            match text.to_lowercase().as_str() {
                lower @ ("any" | "tcp" | "udp" | "icmp" | "icmp6") => {
                    error.hint(format!("protocol: {lower}"))
                }
                "icmpv6" => error.hint("protocol: icmp6"),
                _ => error,
            }
        }),
    }
}

fn direction(node: &Node) -> Result<Direction, YamlError> {
    match word(node, "direction")? {
        "any" => Ok(Direction::Any),
        "from-client" => Ok(Direction::FromClient),
        "from-endpoint" => Ok(Direction::FromEndpoint),
        text => {
            let message =
                format!("direction is {text:?}: it can be from-client, from-endpoint or any");
            let error = YamlError::new(node.line, message);
            match text
                .replace('_', "-")
                .to_lowercase()
                .trim_start_matches("from-")
            {
                side @ ("client" | "endpoint") => {
                    Err(error.hint(format!("direction: from-{side}")))
                }
                _ => Err(error),
            }
        }
    }
}

/// A list, or its only item by itself. Written and empty is refused: it would mean "everything",
/// and whoever emptied it meant "nothing".
fn list<T>(
    entry: Option<(&Key, &Node)>,
    what: &'static str,
    read: impl Fn(&Node) -> Result<T, YamlError>,
) -> Result<Vec<T>, YamlError> {
    let Some((key, node)) = entry else {
        return Ok(Vec::new());
    };
    let items = match &node.value {
        Value::Scalar { .. } if !node.is_null() => std::slice::from_ref(node),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => node.items(what)?,
    };
    match items.len() {
        0 => Err(YamlError::new(
            key.line,
            format!("{what:?} is empty: leave it out if it does not matter"),
        )),
        1..=MAX_ITEMS => items.iter().map(read).collect(),
        many => Err(YamlError::new(
            key.line,
            format!("{what:?} has {many} items, at most {MAX_ITEMS} are read"),
        )),
    }
}

fn prefix(node: &Node) -> Result<IpNet, YamlError> {
    let text = word(node, "a prefix")?;
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = parsed.map_err(|_| {
        YamlError::new(
            node.line,
            format!("{text:?} is not an address or prefix: write for example 10.0.0.0/8"),
        )
    })?;
    if net != net.trunc() {
        let message = format!("{net} has bits set beyond its prefix length");
        return Err(YamlError::new(node.line, message).hint(net.trunc().to_string()));
    }
    Ok(net)
}

fn ports(node: &Node) -> Result<Ports, YamlError> {
    let text = word(node, "a port")?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Ports { first, last }),
        (Some(first), Some(last)) => {
            let message = format!("ports {text:?} run backwards");
            Err(YamlError::new(node.line, message).hint(format!("{last}-{first}")))
        }
        _ => Err(YamlError::new(
            node.line,
            format!("{text:?} is not a port from 1 to 65535 or a range such as 8000-8100"),
        )),
    }
}

/// A scalar, quoted or not.
fn word<'n>(node: &'n Node, what: &str) -> Result<&'n str, YamlError> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Ok(text),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Err(YamlError::new(
            node.line,
            format!("{what} must be text, but is {}", node.describe()),
        )),
    }
}
