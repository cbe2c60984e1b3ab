//! What a connection brings, in every way that it may go.

use std::time::Duration;

use nsm_lab::{
    measure::port_open,
    mesh::{MeshConfig, Workload},
    serve,
};

use crate::{
    Group,
    census::links,
    world::{Env, READY, Shape, World, addresses, end, ip, pings, until},
};

/// Over IPv4.
pub(crate) const GROUP: Group = Group {
    name: "ways",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("two families at once", dual_stack),
        ("IP payload", ip_payload),
        ("routes, DNS and MTU", contexts),
        ("several services at once", several),
        ("a firewall in the chain, across nodes", chain),
    ],
};

/// Over IPv6.
pub(crate) const SIX: Group = Group {
    name: "ways over IPv6",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig {
            ipv6_underlay: true,
            ..MeshConfig::default()
        },
    },
    rows: &[("an underlay of IPv6", underlay_six)],
};

/// A client on the first node and an endpoint on each; what holds of both pairs.
fn both(world: &World, name: &str, env: Env<'_>, check: impl Fn(bool, &Workload, &Workload)) {
    let before = world.census(&[]);
    for (at, place) in [(0, "near"), (1, "far")] {
        let service = format!("{name}-{place}");
        let endpoint = world.endpoint(at, &format!("{service}-nse"), &service, env);
        let quiet = world.census(&[endpoint.pod.cell()]);
        let client = world.client(
            0,
            &format!("{service}-nsc"),
            &format!("kernel://{service}/nsm-1"),
            &[],
        );
        check(at == 1, &client, &endpoint);
        end(client);
        world.as_before(&quiet, &[endpoint.pod.cell()]);
        end(endpoint);
    }
    // The services stay registered: they are nobody's process.
    let now: Vec<String> = world
        .census(&[])
        .into_iter()
        .filter(|row| !row.starts_with("service "))
        .collect();
    let before: Vec<String> = before
        .into_iter()
        .filter(|row| !row.starts_with("service "))
        .collect();
    assert_eq!(now, before);
}

fn mtu(client: &Workload) -> u32 {
    let shown = ip(client.pod.cell(), "link show nsm-1");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "mtu")
        .unwrap_or_else(|| panic!("{shown}"));
    words[at + 1].parse().unwrap()
}

fn dual_stack(world: &World) {
    let env = [("NSM_CIDR_PREFIX", "[10.7.0.0/24],[fd07::/64]")];
    both(world, "w-dual", &env, |_, client, _| {
        let (own, peers) = addresses(client);
        assert_eq!((own.len(), peers.len()), (2, 2), "{own:?} {peers:?}");
        for peer in peers {
            assert!(pings(client.pod.cell(), &peer), "{peer}");
        }
    });
}

fn ip_payload(world: &World) {
    let env = [("NSM_PAYLOAD", "IP"), ("NSM_CIDR_PREFIX", "10.8.0.0/24")];
    both(world, "w-ip", &env, |_, client, _| {
        assert!(pings(client.pod.cell(), &addresses(client).1[0]));
    });
    let log = world.lab.logs().join("forwarder-node-1.log");
    let text = std::fs::read_to_string(log).unwrap();
    assert!(
        text.contains("IP payload to other nodes goes unencrypted"),
        "warned at start"
    );
}

fn contexts(world: &World) {
    let env = [
        ("NSM_CIDR_PREFIX", "10.6.0.0/24"),
        ("NSM_ROUTES", "192.168.77.0/24,192.168.78.0/24 via 10.6.0.0"),
        (
            "NSM_DNS_CONFIGS",
            r#"[{"dns_server_ips":["10.6.0.53"],"search_domains":["mesh.test"]}]"#,
        ),
    ];
    both(world, "w-context", &env, |far, client, endpoint| {
        let routes = ip(client.pod.cell(), "route show");
        assert!(routes.contains("192.168.77.0/24 "), "{routes}");
        assert!(routes.contains("192.168.78.0/24 via 10.6.0.0"), "{routes}");
        ip(endpoint.pod.cell(), "addr add 192.168.77.1/32 dev lo");
        assert!(
            pings(client.pod.cell(), "192.168.77.1"),
            "through the endpoint"
        );
        ip(endpoint.pod.cell(), "addr del 192.168.77.1/32 dev lo");
        assert_eq!(mtu(client), if far { 1446 } else { 1500 });
        let name = client.pod.name();
        let seen = crate::raw::seen(world, 0, name);
        let dns = &seen.context.dns_context.configs;
        assert_eq!(dns.len(), 1, "{dns:?}");
        assert_eq!(dns[0].dns_server_ips, ["10.6.0.53"]);
        assert_eq!(dns[0].search_domains, ["mesh.test"]);
    });
    both(world, "w-mtu", &[("NSM_MTU", "1300")], |_, client, _| {
        assert_eq!(mtu(client), 1300);
    });
}

fn several(world: &World) {
    let first = world.endpoint(
        0,
        "w-many-1",
        "w-many-1",
        &[("NSM_CIDR_PREFIX", "10.3.1.0/24")],
    );
    let second = world.endpoint(
        1,
        "w-many-2",
        "w-many-2",
        &[("NSM_CIDR_PREFIX", "10.3.2.0/24")],
    );
    let cells = [first.pod.cell(), second.pod.cell()];
    let before = world.census(&cells);
    let urls = "kernel://w-many-1/nsm-1,kernel://w-many-2/nsm-2";
    let client = world.client(0, "w-many", urls, &[]);
    until("both are connected", Duration::from_secs(10), || {
        crate::world::count(&client.log, crate::world::CONNECTED) == 2
    });
    assert_eq!(links(client.pod.cell()).len(), 2);
    for peer in ["10.3.1.0", "10.3.2.0"] {
        assert!(pings(client.pod.cell(), peer), "{peer}");
    }
    end(client);
    world.as_before(&before, &cells);
    end(first);
    end(second);
}

/// What the firewall lets pass.
const RULES: &str = "default: deny
rules:
  - action: allow
    protocol: icmp
  - action: allow
    protocol: tcp
    ports: [80]
";

fn chain(world: &World) {
    use crate::orders::{register, route};
    register(
        world,
        "w-chain",
        vec![
            route(&[("app", "firewall")], &[("app", "gateway")]),
            route(&[], &[("app", "firewall")]),
        ],
    );
    let own = [("NSM_REGISTER_SERVICE", "false")];
    let gateway = world.endpoint(
        1,
        "w-gateway",
        "w-chain",
        &[
            own[0],
            ("NSM_LABELS", "app:gateway"),
            ("NSM_CIDR_PREFIX", "10.4.0.0/24"),
        ],
    );
    let rules = world.lab.root().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let node = world.mesh.node(0);
    let pod = world
        .lab
        .pod(node.node(), "w-firewall", |spec| {
            spec.bind(&rules, "/run/rules.yaml", true)
        })
        .unwrap();
    node.enroll(pod.cell(), "w-firewall").unwrap();
    let run = World::program("endpoint", &own)
        .env("NSM_SERVICE_NAMES", "w-chain")
        .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
        .env("NSM_LABELS", "app:firewall")
        .env("NSM_PASSTHROUGH", "true")
        .env("NSM_FILTER", "/run/rules.yaml");
    let firewall = world.mesh.run_in(pod, run, READY).unwrap();
    let cells = [gateway.pod.cell(), firewall.pod.cell()];
    let before = world.census(&cells);
    let client = world.client(1, "w-chained", "kernel://w-chain/nsm-1", &[]);
    let peer = addresses(&client).1[0].clone();
    until("it passes", Duration::from_secs(3), || {
        pings(client.pod.cell(), &peer)
    });
    let server = serve::start(gateway.pod.cell(), &[80, 81], &[]).unwrap();
    let open = |port: u16| {
        let to = std::net::SocketAddr::new(peer.parse().unwrap(), port);
        port_open(client.pod.cell(), to, Duration::from_millis(500)).unwrap()
    };
    assert!(open(80), "the allowed port");
    assert!(!open(81), "the denied port");
    assert_eq!(mtu(&client), 1446, "two tunnels, one after the other");
    let _killed = server.signal(9);
    end(client);
    world.as_before(&before, &cells);
    end(firewall);
    end(gateway);
}

fn underlay_six(world: &World) {
    both(
        world,
        "w-six",
        &[("NSM_CIDR_PREFIX", "10.5.0.0/24")],
        |far, client, _| {
            assert!(pings(client.pod.cell(), &addresses(client).1[0]));
            assert_eq!(mtu(client), if far { 1426 } else { 1500 });
            if far {
                let shown = ip(client.pod.cell(), "-d link show nsm-1");
                let node = world.mesh.node(1).node().addresses().v6.to_string();
                assert!(shown.contains(&format!("remote {node}")), "{shown}");
            }
        },
    );
}
