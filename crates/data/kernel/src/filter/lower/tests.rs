//! The lowering, by tables.

use super::*;

fn rule(text: &str) -> FilterRules {
    FilterRules::load_yaml(&format!(
        "default: deny\nrules:\n  - {{ action: allow, {text} }}\n"
    ))
    .unwrap()
}

/// How many kernel rules and anonymous sets a rule becomes.
#[test]
fn rules_become_one_kernel_rule_a_family() {
    let rows = [
        ("protocol: any", 2, 0),
        ("protocol: tcp, ports: [80]", 2, 0),
        ("protocol: tcp, ports: [80, 443, 8000-8100]", 2, 2),
        ("protocol: icmp", 1, 0),
        ("protocol: icmp6", 1, 0),
        ("from: [10.0.0.0/8]", 1, 0),
        ("from: [10.0.0.0/8, 172.16.0.0/12], to: [192.168.0.1]", 1, 1),
        ("from: [10.0.0.0/8, 'fd00::/8']", 2, 0),
        ("from: [0.0.0.0/0]", 1, 0),
    ];
    for (text, rules, sets) in rows {
        let lowered = lower(&rule(text));
        let own = lowered
            .rules
            .iter()
            .filter(|r| r.subject == Some(Subject::Rule(0)))
            .count();
        assert_eq!((own, lowered.sets.len()), (rules, sets), "{text}");
    }
}

#[test]
fn ports_are_joined_and_sorted() {
    type Row = &'static [(u16, u16)];
    let rows: [(Row, Row); 4] = [
        (&[], &[]),
        (&[(80, 80), (22, 22)], &[(22, 22), (80, 80)]),
        (&[(1, 5), (3, 9), (10, 10)], &[(1, 10)]),
        (&[(65000, 65535), (65535, 65535)], &[(65000, 65535)]),
    ];
    for (list, expected) in rows {
        let listed: Vec<_> = list
            .iter()
            .map(|&(first, last)| Ports { first, last })
            .collect();
        let bytes = |&(first, last): &(u16, u16)| {
            (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec())
        };
        assert_eq!(
            ports(&listed),
            expected.iter().map(bytes).collect::<Vec<_>>(),
            "{list:?}"
        );
    }
}

#[test]
fn intervals_end_before_their_successor() {
    let rows: [(&[u8], Option<&[u8]>); 4] = [
        (&[0, 80], Some(&[0, 81])),
        (&[0, 255], Some(&[1, 0])),
        (&[10, 255, 255, 255], Some(&[11, 0, 0, 0])),
        (&[255, 255], None),
    ];
    for (value, expected) in rows {
        assert_eq!(successor(value.to_vec()).as_deref(), expected, "{value:?}");
    }
}

#[test]
fn a_flow_key_fills_the_registers_of_its_set() {
    for family in Family::BOTH {
        for discriminator in [
            Discriminator::Ports,
            Discriminator::EchoId,
            Discriminator::Nothing,
        ] {
            for reply in [false, true] {
                let length: u32 = key(family, discriminator, reply)
                    .iter()
                    .map(|expr| match expr {
                        Expr::Load(Source::Network(_, length), _) => *length,
                        _ => 4,
                    })
                    .sum();
                assert_eq!(usize::try_from(length).unwrap(), family.key_length());
            }
        }
    }
}
