//! Cases of [`super`]: a table for each rule of `mechanism`.

use std::net::IpAddr;

use super::*;
use crate::url::NetnsUrl;

fn mechanism(kind: &str, parameters: &[(&str, &str)]) -> Mechanism {
    let mut mechanism = Kind::parse(kind).mechanism();
    mechanism.parameters = parameters
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    mechanism
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn kinds_keep_their_name_and_class() {
    for (name, class) in [
        ("KERNEL", LOCAL),
        ("MEMIF", LOCAL),
        ("VFIO", LOCAL),
        ("NOOP", LOCAL),
        ("VXLAN", REMOTE),
        ("WIREGUARD", REMOTE),
        ("IPSEC", REMOTE),
        ("SRV6", REMOTE),
        ("VLAN", REMOTE),
        ("VHOST_USER", LOCAL),
        ("kernel", LOCAL),
    ] {
        let kind = Kind::parse(name);
        assert_eq!((kind.as_str(), kind.class()), (name, class));
        assert_eq!(Kind::of(&kind.mechanism()), kind);
        assert_eq!(
            matches!(kind, Kind::Other(_)),
            matches!(name, "VHOST_USER" | "kernel"),
            "{name}"
        );
    }
}

#[test]
fn views_leave_unknown_parameters_alone() {
    let given = mechanism(
        "KERNEL",
        &[
            ("inodeURL", "inode://4/402"),
            ("name", "nsm-1"),
            ("routeLocalNet", "true"),
            ("future", "x"),
        ],
    );
    let mut kernel = Kernel::parse(&given).unwrap();
    assert_eq!(kernel.netns, Some("inode://4/402".parse().unwrap()));
    assert!(!kernel.bare);
    let mut written = given.clone();
    kernel.write(&mut written);
    assert_eq!(written, given);
    kernel.bare = true;
    kernel.write(&mut written);
    assert_eq!(written.parameters.len(), given.parameters.len() + 1);
    assert!(Kernel::parse(&written).unwrap().bare);

    let given = mechanism(
        "VXLAN",
        &[
            ("src_ip", "fd00::1"),
            ("src_port", "4789"),
            ("MTU", "1446"),
            ("future", "x"),
        ],
    );
    let mut vxlan = Vxlan::parse(&given).unwrap();
    assert_eq!(vxlan.parity(), None);
    vxlan.dst_ip = Some(ip("fd00::2"));
    vxlan.vni = Some(Vni::new(42).unwrap());
    let mut written = given.clone();
    vxlan.write(&mut written);
    assert_eq!(written.parameters["future"], "x");
    assert_eq!(Vxlan::parse(&written).unwrap(), vxlan);
    assert_eq!(vxlan.parity(), Some(Parity::Even));
}

#[test]
fn a_namespace_by_path_is_kept() {
    let given = mechanism(
        "KERNEL",
        &[("inodeURL", NetnsUrl::THREAD_SELF), ("name", "")],
    );
    let kernel = Kernel::parse(&given).unwrap();
    assert_eq!((kernel.netns, &kernel.name), (None, &None));
    assert_eq!(
        Kernel::netns_url(&given),
        Some(NetnsUrl::File("/proc/thread-self/ns/net".to_owned()))
    );
    let mut written = given.clone();
    kernel.write(&mut written);
    assert_eq!(written, given);
}

#[test]
fn bad_parameters_are_named() {
    for (kind, key, value, says) in [
        (
            "KERNEL",
            "name",
            "abcdefghijklmnop",
            "KERNEL mechanism: parameter \"name\" is \"abcdefghijklmnop\": interface name",
        ),
        (
            "KERNEL",
            "inodeURL",
            "inode://x",
            "parameter \"inodeURL\" is \"inode://x\": \"inode://x\" is not an inode URL",
        ),
        ("KERNEL", "bare", "yes", "parameter \"bare\" is \"yes\""),
        (
            "VXLAN",
            "src_ip",
            "10.0.0",
            "parameter \"src_ip\" is \"10.0.0\": invalid IP address",
        ),
        (
            "VXLAN",
            "dst_port",
            "70000",
            "parameter \"dst_port\" is \"70000\"",
        ),
        (
            "VXLAN",
            "vni",
            "0",
            "VNI \"0\" is not a number from 1 to 16777215",
        ),
        ("VXLAN", "vni", "16777216", "VNI \"16777216\" is not"),
        (
            "VXLAN",
            "MTU",
            "1",
            "MTU \"1\" is not a number from 68 to 65535",
        ),
    ] {
        let given = mechanism(kind, &[(key, value)]);
        let error = match kind {
            "KERNEL" => Kernel::parse(&given).unwrap_err(),
            _ => Vxlan::parse(&given).unwrap_err(),
        };
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = Vxlan::parse(&mechanism("KERNEL", &[]))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "mechanism is KERNEL, VXLAN is needed here");
}

#[test]
fn parity_follows_sixteen_byte_order() {
    for (src, dst, parity) in [
        ("10.0.0.1", "10.0.0.2", Parity::Even),
        ("10.0.0.2", "10.0.0.1", Parity::Odd),
        ("10.0.0.1", "10.0.0.1", Parity::Even),
        ("9.0.0.1", "10.0.0.1", Parity::Even),
        ("fd00::2", "fd00::1", Parity::Odd),
        ("10.0.0.1", "fd00::1", Parity::Even),
    ] {
        assert_eq!(vni_parity(ip(src), ip(dst)), parity, "{src} {dst}");
    }
}

#[test]
fn picked_vnis_are_legal_and_never_repeat_a_refused_one() {
    let (peer, other) = (ip("10.0.0.2"), ip("10.0.0.3"));
    for parity in [Parity::Even, Parity::Odd] {
        for random in [0, 1, 77, u32::MAX / 2, u32::MAX] {
            let mut picker = VniPicker::new();
            let first = picker.pick(peer, parity, random, |_| false).unwrap();
            assert!(parity.allows(first));
            let used = picker
                .pick(peer, parity, random, |vni| vni == first)
                .unwrap();
            assert!(used != first && parity.allows(used));
            picker.refuse(peer, first);
            picker.refuse(peer, used);
            let third = picker.pick(peer, parity, random, |_| false).unwrap();
            assert!(third != first && third != used);
            assert_eq!(
                picker.pick(other, parity, random, |_| false).unwrap(),
                first
            );
            picker.forget(peer);
            assert_eq!(picker.pick(peer, parity, random, |_| false).unwrap(), first);
        }
    }
    let error = VniPicker::new()
        .pick(peer, Parity::Odd, 5, |_| true)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no free VNI towards 10.0.0.2"), "{error}");
}

#[test]
fn the_table_answers_negotiation_and_mtu() {
    let names = |payload: &str| {
        remote_for(&Payload::parse(payload))
            .map(|r| r.kind.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("ETHERNET"), ["VXLAN", "VLAN"]);
    assert_eq!(names("IP"), ["WIREGUARD", "IPSEC", "VXLAN", "VLAN"]);
    assert_eq!(names("MPLS"), [""; 0]);
    // MTUs seen on the wire over an underlay of 1500.
    let underlay = Mtu::new(1500).unwrap();
    for (kind, ipv6, mtu) in [
        (Kind::Vxlan, false, 1446),
        (Kind::Vxlan, true, 1426),
        (Kind::Wireguard, false, 1440),
        (Kind::Ipsec, false, 1419),
        (Kind::Kernel, false, 1500),
    ] {
        assert_eq!(
            underlay.minus(overhead(&kind, ipv6)),
            Some(Mtu::new(mtu).unwrap()),
            "{kind}"
        );
    }
    assert_eq!(Mtu::new(100).unwrap().minus(54), None);
    assert_eq!(default_port(&Kind::Vxlan), Some(4789));
    assert!(
        encrypted(&Kind::Wireguard) && !encrypted(&Kind::Vxlan) && !encrypted(&Kind::parse("X"))
    );
    assert!(TABLE.iter().all(|r| Kind::parse(r.kind.as_str()) == r.kind));
}
