//! Small readings of a connection's context: addresses, MTU, hardware addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

/// Text in a context that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// No address with a prefix length.
    #[error("{0:?} in the connection's context is not an address: write <address>/<prefix length>")]
    Address(String),
    /// No MAC address.
    #[error(
        "{0:?} in the connection's context is not a hardware address: write six hexadecimal bytes with ':'"
    )]
    Mac(String),
}

/// Reads addresses with their prefix lengths; a bare address is a single host.
pub fn addrs(texts: &[String]) -> Result<Vec<IpNet>, ContextError> {
    texts.iter().map(|text| addr(text)).collect()
}

/// Reads one address with its prefix length; a bare address is a single host.
pub fn addr(text: &str) -> Result<IpNet, ContextError> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| ContextError::Address(text.to_owned()))
}

/// The first address of a family.
pub fn first(addresses: &[IpNet], ipv6: bool) -> Option<IpAddr> {
    addresses
        .iter()
        .map(IpNet::addr)
        .find(|address| address.is_ipv6() == ipv6)
}

/// The smaller of two MTUs of the wire, where 0 is none.
pub fn min_mtu(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}

/// A locally administered unicast MAC address that belongs to an IP address: an endpoint that takes
/// over the address takes over the MAC too, and its peer's neighbour entry stays right.
///
/// IPv4 stands in it whole, so no two share one; of IPv6 it holds 40 bits of a hash.
pub fn mac_for(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x02, 0x4e, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let mut mac = [0x06; 6];
            for (to, from) in mac.iter_mut().skip(1).zip(Sha256::digest(v6.octets())) {
                *to = from;
            }
            mac
        }
    }
}

/// A MAC address as text.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Reads a MAC address.
pub fn parse_mac(text: &str) -> Result<[u8; 6], ContextError> {
    let error = || ContextError::Mac(text.to_owned());
    let mut mac = [0; 6];
    let mut words = text.split(':');
    for byte in &mut mac {
        let word = words.next().filter(|w| w.len() == 2).ok_or_else(error)?;
        *byte = u8::from_str_radix(word, 16).map_err(|_| error())?;
    }
    if words.next().is_some() {
        Err(error())
    } else {
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let texts = ["10.0.0.1/32", "fd00::1/64", "10.0.0.2"].map(str::to_owned);
        let found = addrs(&texts).unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1/32", "fd00::1/64", "10.0.0.2/32"]
        );
        assert_eq!(first(&found, true), Some("fd00::1".parse().unwrap()));
        assert_eq!(first(&found, false), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(first(&[], false), None);
        let error = addrs(&["10.0.0.1/40".to_owned()]).unwrap_err().to_string();
        assert!(
            error.starts_with("\"10.0.0.1/40\" in the connection's context"),
            "{error}"
        );
    }

    #[test]
    fn mtus() {
        for (a, b, expected) in [
            (0, 0, 0),
            (0, 1500, 1500),
            (1500, 0, 1500),
            (9000, 1446, 1446),
        ] {
            assert_eq!(min_mtu(a, b), expected);
        }
    }

    #[test]
    fn hardware_addresses() {
        let macs =
            ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(|a| mac_for(a.parse().unwrap()));
        for mac in macs {
            assert_eq!(mac[0] & 0b11, 0b10, "locally administered and unicast");
            assert_eq!(parse_mac(&mac_text(mac)), Ok(mac));
            assert_eq!(macs.iter().filter(|other| **other == mac).count(), 1);
        }
        assert_eq!(mac_text(macs[0]), "02:4e:0a:00:00:01");
        for text in [
            "",
            "02:4e:0a:00:00",
            "02:4e:0a:00:00:01:02",
            "02:4e:0a:00:00:0g",
            "2:4e:0a:00:00:01",
        ] {
            assert!(parse_mac(text).is_err(), "{text}");
        }
    }
}
