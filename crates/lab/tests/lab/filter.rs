//! The packet filter of a passthrough endpoint on the real kernel: a bridge between two pods.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nsm_kernel::filter::{Filter, FilterError, Role, RuleCounter, Subject};
use nsm_lab::measure::{UdpFlow, ping, port_open};
use nsm_lab::{Lab, Pod, serve};
use nsm_model::filter::{FilterRules, Flow, Verdict};

use crate::{Row, lab};

pub(crate) const TESTS: &[Row] = &[
    (
        "the_kernel_filters_as_the_rules_say",
        the_kernel_filters_as_the_rules_say,
    ),
    (
        "counters_tell_rules_replies_and_default_apart",
        counters_tell_rules_replies_and_default_apart,
    ),
    (
        "rules_change_without_breaking_connections",
        rules_change_without_breaking_connections,
    ),
    ("ports_come_and_go", ports_come_and_go),
    (
        "many_rules_fit_and_too_many_say_so",
        many_rules_fit_and_too_many_say_so,
    ),
];

/// How long a packet may take before it counts as dropped.
const PATIENCE: Duration = Duration::from_millis(150);
const CLIENT: [&str; 2] = ["10.1.0.1", "fd01::1"];
const SERVER: [&str; 2] = ["10.1.0.2", "fd01::2"];

/// A client, a wall with a bridge, a server; both ends serve, so that either can begin.
struct Wall {
    _lab: Lab,
    client: Pod,
    wall: Pod,
    server: Pod,
    filter: Filter,
}

impl Wall {
    fn new() -> Result<Self, String> {
        let lab = lab();
        let node = lab.node("node").unwrap();
        let [client, wall, server] =
            ["client", "wall", "server"].map(|name| lab.pod(&node, name, |s| s).unwrap());
        ip(&wall, "link add br0 type bridge")?;
        ip(&wall, "link set br0 up")?;
        for (pod, port, addresses) in [(&client, "c0", CLIENT), (&server, "e0", SERVER)] {
            ip(
                &wall,
                &format!(
                    "link add {port} type veth peer name eth0 netns {}",
                    pod.cell().pid()
                ),
            )?;
            ip(&wall, &format!("link set {port} master br0 up"))?;
            ip(pod, "link set eth0 up")?;
            ip(pod, &format!("addr add {}/24 dev eth0", addresses[0]))?;
            ip(pod, &format!("addr add {}/64 dev eth0 nodad", addresses[1]))?;
            serve::start(pod.cell(), &[80, 81, 8080], &[7, 9]).unwrap();
        }
        let mut filter = wall.cell().within(Filter::open).unwrap().unwrap();
        match filter.replace(&rules("default: allow")) {
            Err(error @ FilterError::Unsupported { .. }) => return Err(error.to_string()),
            result => result.unwrap(),
        }
        filter.add_port("c0", Role::Client).unwrap();
        filter.add_port("e0", Role::Endpoint).unwrap();
        Ok(Self {
            _lab: lab,
            client,
            wall,
            server,
            filter,
        })
    }

    /// Whether the flow's first packet is answered.
    fn passes(&self, flow: &Flow) -> bool {
        let from = if flow.from_client {
            &self.client
        } else {
            &self.server
        }
        .cell();
        let to = |port: Option<u16>| (flow.to, port.unwrap()).into();
        match flow.protocol {
            6 => port_open(from, to(flow.port), PATIENCE).unwrap(),
            17 => UdpFlow::start(from, to(flow.port), 50)
                .unwrap()
                .wait_answer(Duration::ZERO, PATIENCE),
            _ => ping(from, flow.to, 1, Duration::ZERO).unwrap().received == 1,
        }
    }
}

fn ip(pod: &Pod, args: &str) -> Result<(), String> {
    let run = pod
        .cell()
        .within(|| Command::new("ip").args(args.split(' ')).status())
        .unwrap();
    let status = run.map_err(|error| format!("cannot run the ip tool: {error}"))?;
    assert!(status.success(), "ip {args}");
    Ok(())
}

fn rules(yaml: &str) -> FilterRules {
    FilterRules::load_yaml(yaml).unwrap()
}

fn flow(from_client: bool, version: usize, protocol: u8, port: Option<u16>) -> Flow {
    let address = |texts: [&str; 2]| -> IpAddr { texts[version].parse().unwrap() };
    let (from, to) = if from_client {
        (CLIENT, SERVER)
    } else {
        (SERVER, CLIENT)
    };
    Flow {
        protocol,
        from_client,
        from: address(from),
        to: address(to),
        port,
    }
}

/// Every kind of flow both ways, in both IP versions.
fn flows() -> Vec<Flow> {
    let kinds = [
        (6, Some(80)),
        (6, Some(81)),
        (6, Some(8080)),
        (17, Some(7)),
        (17, Some(9)),
        (1, None),
    ];
    let mut all = Vec::new();
    for from_client in [true, false] {
        for version in [0, 1] {
            for (protocol, port) in kinds {
                let protocol = if (protocol, version) == (1, 1) {
                    58
                } else {
                    protocol
                };
                all.push(flow(from_client, version, protocol, port));
            }
        }
    }
    all
}

/// The model's reading of the rules is the reference: every flow must fare in the kernel as it
/// says.
fn the_kernel_filters_as_the_rules_say() -> Result<(), String> {
    let mut wall = Wall::new()?;
    let documents = [
        "default: allow",
        "default: deny",
        "default: deny\nrules:\n  - {action: allow, direction: from-client, protocol: tcp, ports: [80]}",
        "default: allow\nrules:\n  - {action: deny, protocol: tcp, ports: [81, 8000-8100]}\n  - {action: deny, direction: from-endpoint}",
        "default: deny\nrules:\n  - {action: allow, to: [10.1.0.2], protocol: tcp}\n  - {action: allow, from: ['fd01::/64'], protocol: udp, ports: [9]}",
        "default: deny\nrules:\n  - {action: deny, protocol: tcp, ports: [80]}\n  - {action: allow, direction: from-endpoint, protocol: tcp}\n  - {action: allow, protocol: icmp}\n  - {action: allow, direction: from-client, protocol: icmp6}",
        "default: deny\nrules:\n  - {action: allow, from: [10.1.0.1, 10.9.0.0/16, 192.0.2.0/24, 'fd01::2'], protocol: udp, ports: [7, 5000-6000]}",
    ];
    for document in documents {
        let rules = rules(document);
        wall.filter.replace(&rules).unwrap();
        let wrong = std::thread::scope(|scope| {
            let wall = &wall;
            let probes: Vec<_> = flows()
                .into_iter()
                .map(|flow| {
                    let expected = rules.verdict(&flow) == Verdict::Allow;
                    // Silence is believed after a second look only: the machine may be busy.
                    scope.spawn(move || {
                        (
                            wall.passes(&flow) || (expected && wall.passes(&flow)),
                            expected,
                            flow,
                        )
                    })
                })
                .collect();
            let results = probes.into_iter().map(|probe| probe.join().unwrap());
            results
                .filter(|(passes, expected, _)| passes != expected)
                .collect::<Vec<_>>()
        });
        assert!(
            wrong.is_empty(),
            "(passes, expected, flow) {wrong:?} under\n{document}"
        );
    }
    wall.filter.remove().unwrap();
    wall.filter.remove().unwrap();
    assert!(wall.passes(&flow(false, 0, 6, Some(81))));
    Ok(())
}

fn counters_tell_rules_replies_and_default_apart() -> Result<(), String> {
    let mut wall = Wall::new()?;
    let document = "default: deny\nrules:\n  - {action: allow, direction: from-client, protocol: tcp, ports: [80]}\n  - {action: deny, protocol: udp}";
    wall.filter.replace(&rules(document)).unwrap();
    let packets = |counters: Vec<RuleCounter>, wanted| {
        let counter = counters
            .into_iter()
            .find(|counter| counter.subject == wanted)
            .unwrap();
        assert!(counter.bytes >= counter.packets * 20, "{counter:?}");
        counter.packets
    };
    let subjects = [
        Subject::Rule(0),
        Subject::Rule(1),
        Subject::Replies,
        Subject::Default,
    ];
    let before = subjects.map(|subject| packets(wall.filter.counters().unwrap(), subject));
    assert_eq!(before[..2], [0, 0], "a new rule has counted nothing");
    // flow, which of the subjects move; the refused ones first, since an ended connection still
    // says goodbye
    let rows = [
        (flow(true, 0, 17, Some(7)), [false, true, false, false]),
        (flow(false, 0, 6, Some(80)), [false, false, false, true]),
        (flow(true, 0, 6, Some(80)), [true, false, true, false]),
        (flow(true, 1, 6, Some(80)), [true, false, true, false]),
    ];
    for (flow, expected) in rows {
        let before = subjects.map(|subject| packets(wall.filter.counters().unwrap(), subject));
        let _ = wall.passes(&flow);
        let after = subjects.map(|subject| packets(wall.filter.counters().unwrap(), subject));
        let moved: Vec<bool> = before
            .iter()
            .zip(after)
            .map(|(before, after)| after > *before)
            .collect();
        // The default counts other traffic too: the kernel's own multicast.
        assert_eq!(moved[..3], expected[..3], "{flow:?}: {before:?} {after:?}");
        assert!(moved[3] || !expected[3], "{flow:?}: {before:?} {after:?}");
    }
    Ok(())
}

fn rules_change_without_breaking_connections() -> Result<(), String> {
    let mut wall = Wall::new()?;
    let document = "default: deny\nrules:\n  - {action: allow, direction: from-client, protocol: tcp, ports: [80]}";
    wall.filter.replace(&rules(document)).unwrap();
    let mut stream = wall
        .client
        .cell()
        .within(|| TcpStream::connect((SERVER[0], 80)))
        .unwrap()
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut echo = |word: &[u8; 5]| {
        stream.write_all(word).unwrap();
        let mut answer = [0u8; 5];
        stream
            .read_exact(&mut answer)
            .map(|()| assert_eq!(&answer, word))
    };
    echo(b"first").unwrap();
    for _ in 0..20 {
        wall.filter.replace(&rules(document)).unwrap();
        echo(b"again").unwrap();
    }
    assert!(!wall.passes(&flow(true, 0, 6, Some(81))));
    wall.filter.replace(&rules("default: deny")).unwrap();
    echo(b"never").unwrap_err();
    Ok(())
}

fn ports_come_and_go() -> Result<(), String> {
    let mut wall = Wall::new()?;
    let document = "default: deny\nrules:\n  - {action: allow, direction: from-client, protocol: tcp, ports: [80]}";
    wall.filter.replace(&rules(document)).unwrap();
    let probe = flow(true, 0, 6, Some(80));
    assert!(wall.passes(&probe));
    wall.filter.remove_port("c0").unwrap();
    wall.filter.remove_port("c0").unwrap();
    assert!(!wall.passes(&probe), "the port is on no side");
    wall.filter.add_port("c0", Role::Client).unwrap();
    wall.filter.add_port("c0", Role::Client).unwrap();
    assert!(wall.passes(&probe));
    for name in ["", "a name that is too long", "a/b"] {
        assert!(
            matches!(
                wall.filter.add_port(name, Role::Client),
                Err(FilterError::PortName { .. })
            ),
            "{name}"
        );
    }
    let mut bare = wall.client.cell().within(Filter::open).unwrap().unwrap();
    assert!(
        bare.add_port("c0", Role::Client).unwrap_err().is_absent(),
        "no rules yet"
    );
    bare.remove_port("c0").unwrap();
    assert!(wall.wall.cell().alive());
    Ok(())
}

fn many_rules_fit_and_too_many_say_so() -> Result<(), String> {
    let mut wall = Wall::new()?;
    let line = "  - {action: deny, protocol: tcp, from: [10.9.0.0/16, 10.11.0.0/16], ports: [1000, 2000]}\n";
    let document = |count: usize| {
        format!(
            "default: deny\nrules:\n{}  - {{action: allow, protocol: tcp, ports: [80]}}\n",
            line.repeat(count)
        )
    };
    wall.filter.replace(&rules(&document(200))).unwrap();
    assert!(wall.passes(&flow(true, 0, 6, Some(80))));
    // More than the largest send buffer some machines grant: refused whole, or it works.
    match wall.filter.replace(&rules(&document(1000))) {
        Ok(()) => {}
        Err(error) => assert!(matches!(error, FilterError::TooLarge { .. }), "{error}"),
    }
    assert!(wall.passes(&flow(true, 0, 6, Some(80))));
    Ok(())
}
