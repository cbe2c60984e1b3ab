//! Groups of prefixes as text, the form of `NSM_CIDR_PREFIX`.

use ipnet::IpNet;

use super::IpamError;

/// Reads `[172.16.1.0/24,172.16.2.0/24],[fd00::/64]`: a pair of addresses from each bracket, whose
/// prefixes are alternatives. Without brackets the prefixes of one family are alternatives, so that
/// `172.16.1.0/24,fd00::/64` means dual stack.
pub fn parse_groups(text: &str) -> Result<Vec<Vec<IpNet>>, IpamError> {
    if !text.contains(['[', ']']) {
        let all = parse_list(text)?;
        let (v4, v6): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|prefix| matches!(prefix, IpNet::V4(_)));
        return Ok([v4, v6]
            .into_iter()
            .filter(|group| !group.is_empty())
            .collect());
    }
    let brackets = || IpamError::Brackets(text.to_owned());
    let mut groups = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (group, after) = rest
            .strip_prefix('[')
            .and_then(|r| r.split_once(']'))
            .ok_or_else(brackets)?;
        if group.contains('[') {
            return Err(brackets());
        }
        groups.push(parse_list(group)?);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) if !next.trim().is_empty() => next.trim_start(),
            None if after.is_empty() => after,
            Some(_) | None => return Err(brackets()),
        };
    }
    Ok(groups)
}

fn parse_list(text: &str) -> Result<Vec<IpNet>, IpamError> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| prefix("prefix", item))
        .collect()
}

/// A prefix, or an address as the prefix of itself alone.
pub(super) fn prefix(field: &'static str, text: &str) -> Result<IpNet, IpamError> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| IpamError::Address {
            field,
            value: text.to_owned(),
        })
}
