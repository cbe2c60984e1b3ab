//! Small texts of the wire: URLs, names, identities, addresses, and what `/proc` says of a process.

use nsm_identity::{address::AgentAddress, ca::JoinToken, decoders};
use nsm_model::{
    context,
    ids::{ConnectionKey, Secret, derive_id},
    ifname::{self, IfName},
    ipam::{PointToPoint, parse_groups},
    mechanism::{Mtu, Vni},
    name::DomainName,
    spiffe::{MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeId, TrustDomain},
    url::{EndpointUrl, InodeUrl, NetnsUrl},
};
use nsm_plan::KeyDigest;

use crate::text;

/// One text, read as everything that a text may be.
pub fn names(data: &[u8]) {
    decoders::process_start(data);
    decoders::process_user(data);
    let Some(text) = text(data) else { return };
    urls(text);
    identities(text);
    interfaces(text);
    addresses(text);
    if let Ok(token) = text.parse::<JoinToken>() {
        assert!(token.reveal().parse::<JoinToken>().unwrap() == token);
        assert!(!format!("{token:?}").contains(text.trim()));
    }
}

fn urls(text: &str) {
    let url = EndpointUrl::parse(text);
    assert_eq!(url.to_string(), text);
    match &url {
        EndpointUrl::Tcp { host, .. } => {
            assert!(!host.is_empty() && !host.contains(['/', '?', '#', '[', ']']));
            assert!(!url.is_local());
        }
        EndpointUrl::Unix(path) => assert!(path.starts_with('/') && url.is_local()),
        EndpointUrl::Inode(_) => assert!(url.is_local()),
        EndpointUrl::Other(other) => assert_eq!(other, text),
    }
    assert_eq!(NetnsUrl::parse(text).to_string(), text);
    if let Ok(inode) = text.parse::<InodeUrl>() {
        assert_eq!(inode.to_string().parse(), Ok(inode));
    }
    if let Ok(address) = text.parse::<AgentAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}

fn identities(text: &str) {
    if let Ok(domain) = text.parse::<TrustDomain>() {
        assert!((1..=MAX_TRUST_DOMAIN_BYTES).contains(&domain.as_str().len()));
        assert_eq!(domain.to_string().parse(), Ok(domain.clone()));
        let node = decoders::node(&domain, "node-1").unwrap();
        assert!(node.member_of(&domain));
    }
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.as_str(), text);
        assert!(text.len() <= MAX_ID_BYTES);
        let domain = id.trust_domain();
        assert!(id.member_of(&domain));
        assert_eq!(format!("spiffe://{domain}{}", id.path()), text);
        let key = ConnectionKey {
            owner: id,
            id: text.to_owned(),
        };
        let digest = KeyDigest(key.digest());
        assert_eq!(KeyDigest::parse(&digest.to_string()), Some(digest));
        assert_eq!(derive_id(&Secret::new([7; 32]), &key, text, text).len(), 36);
    }
    let domain: TrustDomain = "nsm.test".parse().unwrap();
    if let Ok(node) = decoders::node(&domain, text) {
        assert_eq!(node.as_str(), format!("spiffe://nsm.test/nsm/node/{text}"));
    }
    let name = DomainName::parse(text);
    assert_eq!(name.to_string(), text);
    assert_eq!(name.is_remote(), text.contains('@'));
    if let Some(digest) = KeyDigest::parse(text) {
        assert_eq!(KeyDigest::parse(&digest.to_string()), Some(digest));
    }
}

fn interfaces(text: &str) {
    if let Ok(name) = text.parse::<IfName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= ifname::MAX_BYTES && !text.contains(['/', ':', '%', '\0']));
    }
    let generated = IfName::generate(text, &[7; 16], 0);
    assert_eq!(
        generated.as_str().parse::<IfName>().as_ref(),
        Ok(&generated)
    );
    if let Ok(mtu) = text.parse::<Mtu>() {
        assert_eq!(mtu.to_string().parse(), Ok(mtu));
    }
    if let Ok(vni) = text.parse::<Vni>() {
        assert_eq!(vni.to_string().parse(), Ok(vni));
    }
}

fn addresses(text: &str) {
    if let Ok(net) = context::addr(text) {
        assert_eq!(context::addr(&net.to_string()), Ok(net));
        let mac = context::mac_for(net.addr());
        assert_eq!(context::parse_mac(&context::mac_text(mac)), Ok(mac));
    }
    if let Ok(mac) = context::parse_mac(text) {
        assert_eq!(context::parse_mac(&context::mac_text(mac)), Ok(mac));
    }
    let Ok(groups) = parse_groups(text) else {
        return;
    };
    let Ok(mut ipam) = PointToPoint::new(&groups) else {
        return;
    };
    let prefixes = ipam.prefixes();
    if let Ok(assigned) = ipam.allocate("one", &Default::default()) {
        assert_eq!(assigned.pairs.len(), groups.len());
        for pair in &assigned.pairs {
            assert_ne!(pair.src, pair.dst);
            assert!(prefixes.iter().any(|prefix| prefix.contains(&pair.src)));
        }
        assert_eq!(ipam.in_use(), 2 * assigned.pairs.len() as u128);
        assert!(ipam.free("one"));
    }
    assert_eq!(ipam.in_use(), 0);
}
