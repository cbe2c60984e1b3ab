//! Plans as tables, and the laws they keep on a model of a kernel.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use nsm_model::mechanism::{Mtu, Vni};

use crate::*;

const KEY: KeyDigest = KeyDigest([0xab; 16]);

pub(crate) fn kernel(
    ino: u64,
    name: &str,
    addrs: &[&str],
    routes: &[(&str, Option<&str>)],
) -> KernelSide {
    KernelSide {
        netns: NetnsId { dev: 4, ino },
        name: name.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, 1],
        addrs: addrs.iter().map(|text| text.parse().unwrap()).collect(),
        routes: routes
            .iter()
            .map(|(to, via)| (to.parse().unwrap(), via.map(|text| text.parse().unwrap())))
            .collect(),
        neighbours: Vec::new(),
        mtu: Mtu::new(1500).unwrap(),
        bare: false,
    }
}

pub(crate) fn client() -> KernelSide {
    let routes = [
        ("192.0.2.0/24", Some("10.0.0.0")),
        ("10.0.0.0/32", None),
        ("fd00::/128", None),
    ];
    let mut side = kernel(101, "nsm-c", &["10.0.0.1/32", "fd00::1/128"], &routes);
    side.neighbours = vec![("10.0.0.0".parse().unwrap(), [2, 0, 0, 0, 0, 2])];
    side.mtu = Mtu::new(1450).unwrap();
    side
}

/// A side with one of everything.
pub(crate) fn workload() -> KernelSide {
    let via = [("192.0.2.0/24", Some("10.0.0.1"))];
    let mut side = kernel(202, "nsm-e", &["10.0.0.0/32", "fd00::/128"], &via);
    side.neighbours = vec![("10.0.0.1".parse().unwrap(), [2, 0, 0, 0, 0, 2])];
    side
}

pub(crate) fn endpoint() -> KernelSide {
    kernel(202, "nsm-e", &["10.0.0.0/32"], &[("10.0.0.1/32", None)])
}

fn bare() -> KernelSide {
    let mut side = endpoint();
    side.bare = true;
    side
}

pub(crate) fn tunnel(remote: &str) -> Side {
    Side::Vxlan(VxlanSide {
        local: "192.0.2.1".parse().unwrap(),
        remote: remote.parse().unwrap(),
        port: 4789,
        vni: Vni::new(77).unwrap(),
    })
}

pub(crate) fn plan(client: Side, endpoint: Side) -> Plan {
    cross_connect(KEY, &client, &endpoint).unwrap()
}

#[test]
fn two_kernel_sides_are_one_veth_pair() {
    let plan = plan(Side::Kernel(client()), Side::Kernel(endpoint()));
    expect![[r#"
        link      veth [net:[202] nsm-e #1ababaa 02:00:00:00:00:01 mtu 1450] [net:[101] nsm-c #1ababab 02:00:00:00:00:01 mtu 1450]
        address   net:[202] nsm-e 10.0.0.0/32
        route     net:[202] nsm-e 10.0.0.1/32 link
        sysctl    net:[101] net/ipv6/conf/nsm-c/disable_ipv6 = 0
        address   net:[101] nsm-c 10.0.0.1/32
        address   net:[101] nsm-c fd00::1/128
        route     net:[101] nsm-c 10.0.0.0/32 link
        route     net:[101] nsm-c fd00::/128 link
        route     net:[101] nsm-c 192.0.2.0/24 via 10.0.0.0
        neighbour net:[101] nsm-c 10.0.0.0 at 02:00:00:00:00:02
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn a_bare_side_is_only_up() {
    let plan = plan(Side::Kernel(bare()), tunnel("192.0.2.2"));
    expect![[r#"
        link      vxlan [net:[202] nsm-e #1ababab 02:00:00:00:00:01 mtu 1500 bare] vni 77 192.0.2.1 -> 192.0.2.2 port 4789
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn the_tunnel_is_born_on_the_kernel_side() {
    let plan = plan(tunnel("192.0.2.2"), Side::Kernel(endpoint()));
    expect![[r#"
        link      vxlan [net:[202] nsm-e #1ababaa 02:00:00:00:00:01 mtu 1500] vni 77 192.0.2.1 -> 192.0.2.2 port 4789
        address   net:[202] nsm-e 10.0.0.0/32
        route     net:[202] nsm-e 10.0.0.1/32 link
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn what_cannot_be_joined_is_named() {
    let same = Side::Kernel(client());
    let rows = [
        (
            tunnel("192.0.2.2"),
            tunnel("192.0.2.3"),
            expect![
                "no join of a VXLAN side with a VXLAN side: this forwarder cannot connect them; offer another mechanism"
            ],
        ),
        (
            same.clone(),
            same,
            expect![
                "client and endpoint both ask for interface nsm-c in net:[101]: give one of them another name"
            ],
        ),
        (
            Side::Kernel(client()),
            tunnel("2001:db8::1"),
            expect![
                "VXLAN from 192.0.2.1 to 2001:db8::1: both must be IPv4 or both IPv6; check the forwarders' tunnel addresses"
            ],
        ),
    ];
    for (client, endpoint, wanted) in rows {
        let error = cross_connect(KEY, &client, &endpoint).unwrap_err();
        wanted.assert_eq(&error.to_string());
    }
}

#[test]
fn an_alias_is_short_and_names_key_and_role() {
    let text = alias(KEY, Role::Client);
    assert_eq!(text, format!("{ALIAS_PREFIX}{}:c", "ab".repeat(16)));
    assert!(text.len() <= 255);
    assert_eq!(alias_key(&text), Some(KEY));
    assert_eq!(alias_key(&text[1..]), None);
    assert_eq!(KeyDigest::parse(&"ab".repeat(16)), Some(KEY));
    for wrong in ["", "ab", &"zz".repeat(16), &"ab".repeat(17)] {
        assert_eq!(KeyDigest::parse(wrong), None, "{wrong}");
    }
}

/// A kernel as far as plans can tell: what exists, and what stands on what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model(BTreeMap<ResourceId, (Resource, Vec<ResourceId>)>);

impl Model {
    fn change(&mut self, changes: &Changes) {
        for entry in &changes.undo {
            let users = self
                .0
                .iter()
                .find(|(_, (_, after))| after.contains(&entry.id));
            assert_eq!(users, None, "{:?} is taken away below its user", entry.id);
            self.0.remove(&entry.id);
        }
        for entry in &changes.retire {
            let users = self
                .0
                .values()
                .filter(|(_, after)| after.contains(&entry.id));
            assert_eq!(users.count(), 0, "{:?} is retired below its user", entry.id);
            self.0.remove(&entry.id);
        }
        for entry in &changes.settled() {
            let missing = entry.after.iter().find(|id| !self.0.contains_key(id));
            assert_eq!(missing, None, "{:?} comes before what it needs", entry.id);
            let new = (entry.resource.clone(), entry.after.clone());
            if let Some(old) = self.0.insert(entry.id.clone(), new.clone()) {
                assert!(
                    old == new || entry.resource.overwrites(&old.0),
                    "{:?} is not overwritten in place",
                    entry.id
                );
            }
        }
    }

    fn resources(&self) -> BTreeMap<&ResourceId, &Resource> {
        self.0
            .iter()
            .map(|(id, (resource, _))| (id, resource))
            .collect()
    }
}

/// Every pair of plans in it is a change that has to work.
fn plans() -> Vec<Plan> {
    let mut moved = client();
    moved.addrs = vec![
        "10.0.0.5/32".parse().unwrap(),
        "fd00::1/128".parse().unwrap(),
    ];
    let mut rerouted = client();
    rerouted.routes[0].1 = Some("10.0.0.9".parse().unwrap());
    let mut smaller = client();
    smaller.mtu = Mtu::new(1400).unwrap();
    let mut renamed = client();
    renamed.name = "other".parse().unwrap();
    let mut plans: Vec<_> = [client(), moved, rerouted, smaller, renamed]
        .into_iter()
        .flat_map(|side| {
            let client = Side::Kernel(side);
            [
                plan(client.clone(), Side::Kernel(endpoint())),
                plan(client.clone(), Side::Kernel(bare())),
                plan(client, tunnel("192.0.2.2")),
            ]
        })
        .collect();
    plans.push(plan(tunnel("192.0.2.3"), Side::Kernel(endpoint())));
    plans.push(Plan::default());
    plans
}

#[test]
fn any_plan_changes_into_any_other() {
    for old in plans() {
        for new in plans() {
            let mut model = Model::default();
            model.change(&Changes::from(&old));
            let new = succeed(&old, new);
            model.change(&diff(&old, &new));
            let mut fresh = Model::default();
            fresh.change(&Changes::from(&new));
            assert_eq!(model.resources(), fresh.resources(), "from\n{old}to\n{new}");
            model.change(&undo(&new));
            assert_eq!(model, Model::default());
        }
    }
}

#[test]
fn another_mtu_takes_nothing_away() {
    let mut smaller = client();
    smaller.mtu = Mtu::new(1400).unwrap();
    for other in [Side::Kernel(endpoint()), tunnel("192.0.2.2")] {
        let old = plan(Side::Kernel(client()), other.clone());
        let new = plan(Side::Kernel(smaller.clone()), other);
        let changes = diff(&old, &new);
        assert_eq!(changes.undo, Vec::new());
        assert_eq!(changes.apply.len(), 1, "{:?}", changes.apply);
    }
}

#[test]
fn applied_twice_is_applied_once_and_no_difference_is_no_change() {
    for plan in plans() {
        let mut once = Model::default();
        once.change(&Changes::from(&plan));
        let mut twice = once.clone();
        twice.change(&Changes::from(&plan));
        assert_eq!(once, twice);
        assert!(diff(&plan, &plan).is_empty());
    }
}

#[test]
fn a_changed_context_leaves_the_link_alone() {
    let old = plan(Side::Kernel(client()), Side::Kernel(endpoint()));
    let mut side = client();
    side.addrs[0] = "10.0.0.5/32".parse().unwrap();
    side.routes.remove(2);
    let new = plan(Side::Kernel(side), Side::Kernel(endpoint()));
    let changes = diff(&old, &new);
    let show = |entries: &[Entry]| entries.iter().cloned().collect::<Plan>().to_string();
    expect![[r#"
        undo
        route     net:[101] nsm-c 192.0.2.0/24 via 10.0.0.0
        route     net:[101] nsm-c fd00::/128 link
        route     net:[101] nsm-c 10.0.0.0/32 link
        address   net:[101] nsm-c 10.0.0.1/32
        apply
        address   net:[101] nsm-c 10.0.0.5/32
        route     net:[101] nsm-c 10.0.0.0/32 link
        route     net:[101] nsm-c 192.0.2.0/24 via 10.0.0.0
    "#]]
    .assert_eq(&format!(
        "undo\n{}apply\n{}",
        show(&changes.undo),
        show(&changes.apply)
    ));
}

/// Hardware addresses follow from addresses, and a tunnel's device cannot stand beside another one
/// with its number.
#[test]
fn other_addresses_leave_the_interface_where_it_is() {
    let mut other = client();
    other.addrs[0] = "10.0.0.5/32".parse().unwrap();
    other.mac = [2, 0, 0, 0, 0, 9];
    for far in [Side::Kernel(endpoint()), tunnel("192.0.2.2")] {
        let old = plan(Side::Kernel(client()), far.clone());
        let new = succeed(&old, plan(Side::Kernel(other.clone()), far));
        let changes = diff(&old, &new);
        let is_link = |entry: &&Entry| matches!(entry.resource, Resource::Link(_));
        let mut all = changes.undo.iter().chain(&changes.apply);
        assert_eq!(all.find(is_link), None);
        assert_eq!((changes.swaps, changes.retire), (Vec::new(), Vec::new()));
        assert!(old.links().eq(new.links()), "{new}");
    }
    let old = plan(Side::Kernel(client()), Side::Kernel(endpoint()));
    let new = succeed(&old, plan(Side::Kernel(other), tunnel("192.0.2.2")));
    let mac = new.links().next().map(|(_, link)| link.ends()[0].mac);
    assert_eq!(mac, Some([2, 0, 0, 0, 0, 9]), "another one has its own");
}

#[test]
fn what_is_shared_goes_with_its_last_owner() {
    let other = KeyDigest([1; 16]);
    let mut shared = plan(Side::Kernel(client()), Side::Kernel(endpoint()));
    let link = shared.entries()[0].clone();
    shared.add(Entry {
        owners: BTreeSet::from([other]),
        ..link.clone()
    });
    let gone = shared.release(KEY);
    assert_eq!(
        gone.get(&link.id),
        None,
        "another connection still needs the link"
    );
    assert_eq!(shared.entries().len(), 1);
    let gone = shared.release(other);
    assert_eq!(gone.entries().len(), 1);
    assert!(shared.is_empty());
}

#[test]
fn indices_of_a_connection_differ() {
    for key in [KEY, KeyDigest([0; 16]), KeyDigest([0xff; 16])] {
        let ends = [Role::Client, Role::Endpoint].map(|role| derived_index(key, role));
        assert_ne!(ends[0], ends[1]);
        assert!(
            ends.iter()
                .all(|index| (0x0100_0000..0x0200_0000).contains(index))
        );
    }
}
