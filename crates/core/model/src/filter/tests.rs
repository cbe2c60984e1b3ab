//! Cases of [`super`]: a table for each rule of `filter`.

use super::*;

const FILE: &str = "\
default: deny
rules:
  - action: allow
    direction: from-client
    protocol: tcp
    from: [172.16.0.0/16, 'fd00::/64']
    to: 10.0.0.1
    ports: [80, 8000-8100]
  - {action: deny, protocol: 17}
  - {action: allow, protocol: icmp}
  - {action: allow, protocol: 47, direction: from-endpoint}
";

#[test]
fn a_file_is_read() {
    let filter = FilterRules::load_yaml(FILE).unwrap();
    assert_eq!(filter.default, Verdict::Deny);
    let first = &filter.rules[0];
    assert_eq!(
        (first.verdict, first.direction, first.protocol),
        (Verdict::Allow, Direction::FromClient, Protocol::Tcp)
    );
    assert_eq!(
        first.from,
        [
            "172.16.0.0/16".parse().unwrap(),
            "fd00::/64".parse().unwrap()
        ]
    );
    assert_eq!(first.to, ["10.0.0.1/32".parse().unwrap()]);
    assert_eq!(
        first.ports,
        [
            Ports {
                first: 80,
                last: 80
            },
            Ports {
                first: 8000,
                last: 8100
            }
        ]
    );
    let protocols: Vec<_> = filter
        .rules
        .iter()
        .map(|r| r.protocol.to_string())
        .collect();
    assert_eq!(protocols, ["tcp", "udp", "icmp", "47"]);
    assert_eq!(
        FilterRules::load_yaml("default: allow\nrules:\n")
            .unwrap()
            .rules,
        []
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let filter = FilterRules::load_yaml(FILE).unwrap();
    // protocol, who begins, from, to, port, passes
    for (protocol, from_client, from, to, port, passes) in [
        (6, true, "172.16.0.9", "10.0.0.1", Some(80), true),
        (6, true, "172.16.0.9", "10.0.0.1", Some(8000), true),
        (6, true, "172.16.0.9", "10.0.0.1", Some(8100), true),
        (6, true, "172.16.0.9", "10.0.0.1", Some(8101), false),
        (6, true, "172.17.0.9", "10.0.0.1", Some(80), false),
        (6, true, "172.16.0.9", "10.0.0.2", Some(80), false),
        (6, false, "172.16.0.9", "10.0.0.1", Some(80), false),
        (17, true, "172.16.0.9", "10.0.0.1", Some(80), false),
        (1, false, "1.1.1.1", "2.2.2.2", None, true),
        (58, true, "fd00::1", "fd00::2", None, false),
        (47, false, "1.1.1.1", "2.2.2.2", None, true),
        (47, true, "1.1.1.1", "2.2.2.2", None, false),
    ] {
        let flow = Flow {
            protocol,
            from_client,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            port,
        };
        assert_eq!(filter.verdict(&flow) == Verdict::Allow, passes, "{flow:?}");
    }
}

/// Files, and why they are refused.
const BAD_FILES: &[(&str, &str)] = &[
    (
        "",
        "line 1: a filter file holds one document, this one holds 0; write: default: deny",
    ),
    (
        "default: deny\n---\ndefault: deny\n",
        "line 3: a filter file holds one document, this one holds 2; write: default: deny",
    ),
    (
        "rules: []\n",
        "line 1: the filter has no \"default\"; write: default: deny",
    ),
    (
        "default: drop\n",
        "line 1: default is \"drop\": it can be allow or deny; write: default: deny",
    ),
    (
        "default:deny\n",
        "line 1: the filter must be a map, but is the text \"default:deny\"; write: default: deny",
    ),
    (
        "default: deny\nrule: []\n",
        "line 2: the filter has an unknown key \"rule\" (known: default, rules); write: rules:",
    ),
    (
        "default: deny\nrules:\n  action: allow\n",
        "line 3: rules must be a list, but is a map; write: - action:",
    ),
];

/// The rule in line 3, and why it is refused.
const BAD_RULES: &[(&str, &str)] = &[
    (
        "protocol: tcp",
        "line 3: a rule has no \"action\"; write: action: allow",
    ),
    (
        "action: Accept",
        "line 3: action is \"Accept\": it can be allow or deny; write: action: allow",
    ),
    (
        "{action: allow, protocol: TCP}",
        "line 3: protocol is \"TCP\": it can be any, tcp, udp, icmp, icmp6 or a number up to 255; write: protocol: tcp",
    ),
    (
        "{action: allow, protocol: 256}",
        "line 3: protocol is \"256\": it can be any, tcp, udp, icmp, icmp6 or a number up to 255",
    ),
    (
        "{action: allow, direction: client}",
        "line 3: direction is \"client\": it can be from-client, from-endpoint or any; write: direction: from-client",
    ),
    (
        "{action: allow, port: 80}",
        "line 3: a rule has an unknown key \"port\" (known: action, protocol, direction, from, to, ports); write: ports:",
    ),
    (
        "{action: allow, ports: 80}",
        "line 3: ports need a protocol that has them, but protocol is any; write: protocol: tcp",
    ),
    (
        "{action: allow, protocol: icmp, ports: 80}",
        "line 3: ports need a protocol that has them, but protocol is icmp; write: protocol: tcp",
    ),
    (
        "{action: allow, protocol: tcp, ports: 90-80}",
        "line 3: ports \"90-80\" run backwards; write: 80-90",
    ),
    (
        "{action: allow, protocol: tcp, ports: [0]}",
        "line 3: \"0\" is not a port from 1 to 65535 or a range such as 8000-8100",
    ),
    (
        "{action: allow, protocol: tcp, ports: []}",
        "line 3: \"ports\" is empty: leave it out if it does not matter",
    ),
    (
        "{action: allow, from: }",
        "line 3: \"from\" is empty: leave it out if it does not matter",
    ),
    (
        "{action: allow, from: 10.0.0}",
        "line 3: \"10.0.0\" is not an address or prefix: write for example 10.0.0.0/8",
    ),
    (
        "{action: allow, from: 10.0.0.1/8}",
        "line 3: 10.0.0.1/8 has bits set beyond its prefix length; write: 10.0.0.0/8",
    ),
    (
        "{action: allow, from: 10.0.0.1, to: 'fd00::1'}",
        "line 3: \"from\" and \"to\" are of different IP versions: no packet fits",
    ),
    (
        "{action: allow, protocol: icmp6, to: 10.0.0.1}",
        "line 3: 10.0.0.1/32 is of another IP version than icmp6: no packet fits",
    ),
    (
        "{action: {a: b}}",
        "line 3: action must be text, but is a map",
    ),
];

#[test]
fn refusals_name_the_line_and_the_right_text() {
    for (yaml, error) in BAD_FILES {
        assert_eq!(
            FilterRules::load_yaml(yaml).unwrap_err().to_string(),
            *error
        );
    }
    for (rule, error) in BAD_RULES {
        let yaml = format!("default: deny\nrules:\n- {rule}\n");
        assert_eq!(
            FilterRules::load_yaml(&yaml).unwrap_err().to_string(),
            *error
        );
    }
    let many = format!(
        "default: deny\nrules:\n{}",
        "- action: allow\n".repeat(MAX_RULES + 1)
    );
    assert_eq!(
        FilterRules::load_yaml(&many).unwrap_err().to_string(),
        "line 1027: 1025 rules, at most 1024 are read"
    );
}
