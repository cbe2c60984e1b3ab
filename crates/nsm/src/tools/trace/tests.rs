//! Pictures and shapes of connections that four managers' words are put together to.

use std::time::Duration;

use expect_test::{expect, expect_file};
use nsm_api::{
    connection::{Connection, Path, PathSegment, State},
    registry::NetworkServiceLabels,
};

use super::*;
use crate::tools::connections::{Overview, gather};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

/// Hops as `name` or `name=metric:value,...`, each with 590 to go.
fn path(text: &str, index: u32) -> Path {
    let segment = |(at, word): (usize, &str)| {
        let (name, metrics) = word.split_once('=').unwrap_or((word, ""));
        let pairs = metrics.split(',').filter_map(|pair| pair.split_once(':'));
        let ends = now() + Duration::from_secs(590 + at as u64);
        PathSegment {
            name: name.to_owned(),
            id: format!("{name}-{at}"),
            expires: buffa::MessageField::some(ends.into()),
            metrics: pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..Default::default()
        }
    };
    Path {
        index,
        path_segments: text.split_whitespace().enumerate().map(segment).collect(),
        ..Default::default()
    }
}

/// What the hop at `index` tells; `mechanism` as `TYPE key=value ...`.
fn view(hops: &str, index: u32, mechanism: &str, state: State) -> Connection {
    let mut words = mechanism.split_whitespace();
    let mechanism = Mechanism {
        r#type: words.next().unwrap_or_default().to_owned(),
        parameters: words
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..Default::default()
    };
    let path = path(hops, index);
    let mut connection = Connection {
        id: path.path_segments[index as usize].id.clone(),
        network_service: "vpn".to_owned(),
        payload: "ETHERNET".to_owned(),
        mechanism: buffa::MessageField::some(mechanism),
        path: buffa::MessageField::some(path),
        state: state.into(),
        ..Default::default()
    };
    let context = connection.context.get_or_insert_default();
    context.MTU = 1446;
    let ip = context.ip_context.get_or_insert_default();
    ip.src_ip_addrs = vec!["172.16.1.1/32".to_owned(), "fd00::1/128".to_owned()];
    ip.dst_ip_addrs = vec!["172.16.1.0/32".to_owned()];
    connection
}

fn record(name: &str, service: &str, url: &str, node: &str) -> NetworkServiceEndpoint {
    let labels = NetworkServiceLabels {
        labels: BTreeMap::from([("nodeName".to_owned(), node.to_owned())]),
        ..Default::default()
    };
    NetworkServiceEndpoint {
        name: name.to_owned(),
        url: url.to_owned(),
        network_service_names: vec![service.to_owned()],
        network_service_labels: match node {
            "" => BTreeMap::new(),
            _ => BTreeMap::from([(service.to_owned(), labels)]),
        },
        ..Default::default()
    }
}

fn known() -> Known {
    let records = [
        record("nsmgr-1", "nsmgr", "tcp://10.0.0.1:5001", "node-1"),
        record("nsmgr-2", "nsmgr", "tcp://10.0.0.2:5001", "node-2"),
        record("forwarder-1", "forwarder", "tcp://10.0.0.1:5001", ""),
        record("forwarder-2", "forwarder", "tcp://10.0.0.2:5001", "node-2"),
        record("firewall", "vpn", "tcp://10.0.0.1:5001", "node-1"),
        record("gateway-2", "vpn", "tcp://10.0.0.2:5001", "node-2"),
    ];
    Known::new(&records, "forwarder")
}

const CHAIN: &str = "client nsmgr-1 \
     forwarder-1=client_rx_packets:14,client_rx_bytes:1250,client_tx_packets:12,client_tx_bytes:980,\
     server_rx_packets:12,server_rx_bytes:980,server_tx_packets:14,server_tx_bytes:1250,server_drops:3 \
     firewall nsmgr-1 forwarder-1 nsmgr-2 forwarder-2=server_interface:KERNEL/vpn-9 gateway-2";

fn chain() -> Vec<Flow> {
    gather([
        view(
            CHAIN,
            6,
            "VXLAN vni=4711 src_ip=10.0.0.1 dst_ip=10.0.0.2 dst_port=4789",
            State::UP,
        ),
        view(
            CHAIN,
            1,
            "KERNEL name=nsm-1 inodeURL=inode://4/4026",
            State::UP,
        ),
        view(CHAIN, 4, "KERNEL name=vpn-7", State::UP),
        view(
            "other nsmgr-1 forwarder-1 firewall",
            1,
            "KERNEL name=nsm-1",
            State::DOWN,
        ),
    ])
}

#[test]
fn a_chain_over_two_nodes() {
    let flows = chain();
    let trace = Trace::new(pick(&flows, "client").unwrap(), &known());
    expect![[r#"
        client/client-0: vpn at gateway-2
        UP, payload ETHERNET, mtu 1446, expires in 9m50s

        ● client         node-1  172.16.1.1/32  fd00::1/128  expires in 9m50s
        ┃   KERNEL nsm-1
        ┃ ○ nsmgr-1      node-1  expires in 9m51s
        ● forwarder-1    node-1  expires in 9m52s
        ╎     client  rx 14 packets 1.2 kB  tx 12 packets 980 B
        ╎     server  rx 12 packets 980 B  tx 14 packets 1.2 kB  3 dropped
        ╎
        ● firewall       node-1  expires in 9m53s
        ┃   KERNEL vpn-7
        ┃ ○ nsmgr-1      node-1  expires in 9m54s
        ● forwarder-1    node-1  expires in 9m55s
        ┇   VXLAN vni 4711  10.0.0.1 > 10.0.0.2 port 4789
        ┇ ○ nsmgr-2      node-2  expires in 9m56s
        ● forwarder-2    node-2  expires in 9m57s
        ┃   KERNEL vpn-9
        ● gateway-2      node-2  172.16.1.0/32  expires in 9m58s

        ● packets pass   ○ manager: agreed on it   ┃ on one node   ┇ between nodes   ╎ not told"#]]
    .assert_eq(&draw(&trace, now()));
}

#[test]
fn one_that_is_down_and_whose_endpoint_nobody_knows() {
    let view = view("client nsmgr-1 mystery ghost", 1, "", State::DOWN);
    let flows = gather([view]);
    let trace = Trace::new(&flows[0], &known());
    let late = now() + Duration::from_secs(592);
    expect![[r#"
        client/client-0: vpn at ghost
        DOWN, payload ETHERNET, mtu 1446, expired

        ● client     node-1  172.16.1.1/32  fd00::1/128  expired
        ╎
        ╎ ○ nsmgr-1  node-1  DOWN  expired
        ● mystery    -       expires in 0s
        ╎
        ● ghost      -       172.16.1.0/32  expires in 1s

        ● packets pass   ○ manager: agreed on it   ┃ on one node   ┇ between nodes   ╎ not told"#]]
    .assert_eq(&draw(&trace, late));
}

#[test]
fn overview() {
    let rows: Vec<_> = chain()
        .iter()
        .map(|flow| Overview::new(flow).row(now()))
        .collect();
    expect![[r#"
        ID        CLIENT  SERVICE  ENDPOINT   STATE  ADDRESSES                        EXPIRES  HOPS
        client-0  client  vpn      gateway-2  UP     172.16.1.1,fd00::1 > 172.16.1.0  9m50s    client nsmgr-1 forwarder-1 firewall nsmgr-1 forwarder-1 nsmgr-2 forwarder-2 gateway-2
        other-0   other   vpn      firewall   DOWN   172.16.1.1,fd00::1 > 172.16.1.0  9m50s    other nsmgr-1 forwarder-1 firewall"#]].assert_eq(&output::table(&Overview::HEADINGS, &rows, None));
    expect![[r#"
        ID        CLIENT  SERVICE  ENDPOINT   STATE  ADDRESSES              EXPIRES  HOPS
        client-0  client  vpn      gateway-2  UP     172.16.1.1,fd00::1 >   9m50s    client nsmgr-1
                                                     172.16.1.0                      forwarder-1 firewall
                                                                                     nsmgr-1 forwarder-1
                                                                                     nsmgr-2 forwarder-2
                                                                                     gateway-2
        other-0   other   vpn      firewall   DOWN   172.16.1.1,fd00::1 >   9m50s    other nsmgr-1
                                                     172.16.1.0                      forwarder-1 firewall"#]].assert_eq(&output::table(&Overview::HEADINGS, &rows, Some(100)));
}

#[test]
fn shape() {
    let flows = gather([view(
        "client nsmgr-1 forwarder-1 firewall",
        1,
        "KERNEL name=nsm-1",
        State::UP,
    )]);
    let trace = Trace::new(&flows[0], &known());
    expect_file!["shape.json"].assert_eq(&output::structured(&trace, Format::Json).unwrap());
}

#[test]
fn which_one_is_meant() {
    let flows = chain();
    for (wanted, expected) in [
        ("client-0", "client/client-0"),
        ("client/client-0", "client/client-0"),
        ("client", "client/client-0"),
        ("cl", "client/client-0"),
        ("forwarder-2-7", "client/client-0"),
        ("other-0", "other/other-0"),
        (
            "nsmgr-1-1",
            "connection \"nsmgr-1-1\" is not the only one of its name: client/client-0, other/other-0",
        ),
        (
            "",
            "connection \"\" is not the only one of its name: client/client-0, other/other-0",
        ),
        (
            "vpn",
            "there is no connection \"vpn\"; there are client/client-0, other/other-0",
        ),
    ] {
        let found = match pick(&flows, wanted) {
            Ok(flow) => format!("{}/{}", flow.client(), flow.id()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{wanted}");
    }
    let error = pick(&[], "x").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no connection \"x\": no hop that was asked has any connection"
    );
}
