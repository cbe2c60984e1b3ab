//! Replacements while packets flow, as tables.

use expect_test::expect;
use nsm_model::mechanism::Mtu;

use crate::tests::{client, endpoint, kernel, plan, tunnel};
use crate::{Changes, Entry, KernelSide, Plan, Side, diff, succeed};

fn show(changes: &Changes) -> String {
    let rows = |entries: &[Entry]| entries.iter().cloned().collect::<Plan>().to_string();
    let mut shown = format!(
        "undo\n{}apply\n{}swaps\n",
        rows(&changes.undo),
        rows(&changes.apply)
    );
    for swap in &changes.swaps {
        let (old, new) = (&swap.old, &swap.new);
        let row = format!(
            "{} {} #{:x} -> {} #{:x}, first {}\n",
            new.netns, old.name, old.index, new.name, new.index, swap.temporary
        );
        shown.push_str(&row);
    }
    shown + "retire\n" + &rows(&changes.retire)
}

/// A client of one family, and another endpoint of the same service.
fn workload() -> KernelSide {
    kernel(101, "nsm-c", &["fd00::1/128"], &[("fd00::/128", None)])
}

fn another() -> Side {
    Side::Kernel(kernel(
        303,
        "nsm-f",
        &["fd00::/128"],
        &[("fd00::1/128", None)],
    ))
}

#[test]
fn another_endpoint_comes_before_the_old_one_goes() {
    let first = kernel(202, "nsm-e", &["fd00::/128"], &[("fd00::1/128", None)]);
    let old = plan(Side::Kernel(workload()), Side::Kernel(first));
    let new = succeed(&old, plan(Side::Kernel(workload()), another()));
    expect![[r#"
        undo
        apply
        link      veth [net:[303] nsm-f #1ababaa 02:00:00:00:00:01 mtu 1500] [net:[101] nsn-11ababab #11ababab 02:00:00:00:00:01 mtu 1500]
        sysctl    net:[303] net/ipv6/conf/nsm-f/disable_ipv6 = 0
        address   net:[303] nsm-f fd00::/128
        route     net:[303] nsm-f fd00::1/128 link
        sysctl    net:[101] net/ipv6/conf/nsn-11ababab/disable_ipv6 = 0
        address   net:[101] nsn-11ababab fd00::1/128
        route     net:[101] nsn-11ababab fd00::/128 link
        swaps
        net:[101] nsm-c #1ababab -> nsm-c #11ababab, first nsn-11ababab
        retire
        route     net:[101] nsm-c fd00::/128 link
        address   net:[101] nsm-c fd00::1/128
        sysctl    net:[101] net/ipv6/conf/nsm-c/disable_ipv6 = 0
        route     net:[202] nsm-e fd00::1/128 link
        address   net:[202] nsm-e fd00::/128
        sysctl    net:[202] net/ipv6/conf/nsm-e/disable_ipv6 = 0
        link      veth [net:[202] nsm-e #1ababaa 02:00:00:00:00:01 mtu 1500] [net:[101] nsm-c #1ababab 02:00:00:00:00:01 mtu 1500]
    "#]].assert_eq(&show(&diff(&old, &new)));
}

#[test]
fn a_tunnel_takes_over_from_a_pair() {
    let old = plan(Side::Kernel(workload()), another());
    let new = succeed(&old, plan(Side::Kernel(workload()), tunnel("192.0.2.2")));
    expect![[r#"
        undo
        apply
        link      vxlan [net:[101] nsn-11ababab #11ababab 02:00:00:00:00:01 mtu 1500] vni 77 192.0.2.1 -> 192.0.2.2 port 4789
        sysctl    net:[101] net/ipv6/conf/nsn-11ababab/disable_ipv6 = 0
        address   net:[101] nsn-11ababab fd00::1/128
        route     net:[101] nsn-11ababab fd00::/128 link
        swaps
        net:[101] nsm-c #1ababab -> nsm-c #11ababab, first nsn-11ababab
        retire
        route     net:[101] nsm-c fd00::/128 link
        address   net:[101] nsm-c fd00::1/128
        sysctl    net:[101] net/ipv6/conf/nsm-c/disable_ipv6 = 0
        route     net:[303] nsm-f fd00::1/128 link
        address   net:[303] nsm-f fd00::/128
        sysctl    net:[303] net/ipv6/conf/nsm-f/disable_ipv6 = 0
        link      veth [net:[303] nsm-f #1ababaa 02:00:00:00:00:01 mtu 1500] [net:[101] nsm-c #1ababab 02:00:00:00:00:01 mtu 1500]
    "#]].assert_eq(&show(&diff(&old, &new)));
}

/// Asked for again, it is what stands, whichever of its two indices that has.
#[test]
fn what_stays_stays() {
    let sides = || {
        [
            another(),
            Side::Kernel(endpoint()),
            tunnel("192.0.2.2"),
            tunnel("192.0.2.3"),
        ]
    };
    let mut standing = Plan::default();
    for (number, side) in sides().into_iter().chain(sides()).enumerate() {
        let asked = || plan(Side::Kernel(client()), side.clone());
        let next = succeed(&standing, asked());
        assert_eq!(
            diff(&standing, &next).swaps.len(),
            usize::from(number > 0),
            "{next}"
        );
        assert!(diff(&next, &succeed(&next, asked())).is_empty(), "{next}");
        let mut smaller = client();
        smaller.mtu = Mtu::new(1400).unwrap();
        let resized = succeed(&next, plan(Side::Kernel(smaller), side.clone()));
        let changes = diff(&next, &resized);
        assert!(
            changes.swaps.is_empty() && changes.undo.is_empty(),
            "{}",
            show(&changes)
        );
        standing = next;
    }
}

#[test]
fn with_a_gap_nothing_has_another_name() {
    let old = plan(Side::Kernel(client()), Side::Kernel(endpoint()));
    let new = succeed(&old, plan(Side::Kernel(client()), tunnel("192.0.2.2")));
    let changes = diff(&old, &new).with_gap();
    assert!(changes.swaps.is_empty() && changes.retire.is_empty());
    assert_eq!(changes.apply, new.entries());
    assert_eq!(changes.undo.len(), old.entries().len());
}
