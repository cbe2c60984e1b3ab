//! Events of links and namespaces.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nsm_kernel::events::{Event, Listener};
use nsm_kernel::{Adopted, Executor, setup};

use crate::adopt::full;
use crate::support::{Node, exchange, isolated, key};

/// How soon the forwarder has to know that a namespace is gone.
const SOON: Duration = Duration::from_millis(100);
/// Bounds a failing test.
const LIMIT: Duration = Duration::from_secs(3);

/// How soon an interface set down inside the workload has to be up again.
const REPAIRED: Duration = Duration::from_millis(200);

fn wait(events: &Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Duration {
    let start = Instant::now();
    let mut seen = Vec::new();
    while start.elapsed() < LIMIT {
        match events.recv_timeout(Duration::from_millis(10)) {
            Ok(event) if wanted(&event) => return start.elapsed(),
            Ok(event) => seen.push(event),
            Err(_) => {}
        }
    }
    panic!("no such event; seen: {seen:?}");
}

#[test]
fn a_namespace_that_goes_is_told() {
    isolated("listen::a_namespace_that_goes_is_told", || {
        let mut node = Node::new();
        let (listener, events) = Listener::start(node.executor.workers()).unwrap();
        let (plan, client, _) = node.pair(key(9), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let applied = node.executor.apply(&plan, &node.pods).unwrap();
        let nsid = applied
            .namespaces
            .iter()
            .find(|place| place.id == client)
            .unwrap()
            .nsid;
        node.pods.remove(&client);
        let took = wait(&events, |event| *event == Event::NamespaceGone { nsid });
        assert!(took <= SOON, "told after {took:?}");
        node.executor.undo(&plan).unwrap();
        drop(listener);
        assert!(events.iter().all(|event| event != Event::Missed));
    });
}

#[test]
fn a_link_that_goes_down_or_away_is_told() {
    isolated("listen::a_link_that_goes_down_or_away_is_told", || {
        let mut node = Node::new();
        let (_listener, events) = Listener::start(node.executor.workers()).unwrap();
        let (plan, client, endpoint) = node.pair(key(9), &["10.1.0.1/32"], &["10.1.0.0/32"]);
        let applied = node.executor.apply(&plan, &node.pods).unwrap();
        let number = |pod| {
            applied
                .namespaces
                .iter()
                .find(|place| place.id == pod)
                .map(|place| place.nsid)
        };
        let (client, endpoint) = ((client, number(client)), (endpoint, number(endpoint)));
        let name = "nsm-c".parse().unwrap();
        let down = move |own: &mut setup::Own| own.delete(&name);
        setup::within(node.executor.workers(), &node.pods[&client.0], down).unwrap();
        let text = "09".repeat(16);
        wait(
            &events,
            |event| matches!(event, Event::LinkDown { alias, .. } if alias.contains(&text)),
        );
        wait(&events, |event| {
            matches!(event, Event::LinkGone { nsid, alias, .. }
            if (*nsid == client.1 || *nsid == endpoint.1) && alias.contains(&text))
        });
    });
}

/// A new process has heard of no link before.
#[test]
fn what_is_done_by_hand_is_told_and_put_right_at_once() {
    isolated(
        "listen::what_is_done_by_hand_is_told_and_put_right_at_once",
        || {
            let mut node = Node::new();
            let (plan, client, endpoint) = full(&mut node);
            let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            let wanted = [client, endpoint].map(|pod| node.everything(pod));
            for (pod, by_hand) in [
                (client, "link set nsm-c down"),
                (endpoint, "link set nsm-e down"),
                (client, "link set nsm-c name other"),
                (client, "link set nsm-c mtu 1300"),
                (client, "link set nsm-c alias mine"),
                (client, "link set nsm-c group 0"),
                (client, "addr del 10.1.0.1/32 dev nsm-c"),
                (endpoint, "addr del fd01::/128 dev nsm-e"),
                (client, "route del 192.0.2.0/24"),
                (endpoint, "route del fd01::1/128"),
                (client, "link del nsm-c"),
            ] {
                node.executor = Executor::new("forwarder").unwrap();
                let (_listener, events) = Listener::start(node.executor.workers()).unwrap();
                let adopted = node.executor.adopt(&plan, &journal).unwrap();
                assert_eq!(adopted, Adopted::AsItWas, "{by_hand}");
                node.ip(pod, by_hand);
                let began = Instant::now();
                wait(&events, |event| differs(&node.executor, event));
                let repaired = node.executor.repair(&plan).unwrap();
                let took = began.elapsed();
                assert!(matches!(repaired, Adopted::Repaired(_)), "{by_hand}");
                assert!(took <= REPAIRED, "{by_hand}: {took:?}");
                assert!(node.executor.reaper().wait_idle(LIMIT));
                let now = [client, endpoint].map(|pod| node.everything(pod));
                assert_eq!(now, wanted, "{by_hand}");
            }
        },
    );
}

/// A client that sent meanwhile has asked for a hardware address, and was not heard.
#[test]
fn what_was_asked_while_a_link_was_down_is_asked_again_at_once() {
    isolated(
        "listen::what_was_asked_while_a_link_was_down_is_asked_again_at_once",
        || {
            let mut node = Node::new();
            let (near, far) = (
                ["10.1.0.1/32", "fd01::1/128"],
                ["10.1.0.0/32", "fd01::/128"],
            );
            let (plan, client, endpoint) = node.pair(key(9), &near, &far);
            node.executor.apply(&plan, &node.pods).unwrap();
            for (ours, theirs) in [("10.1.0.1", "10.1.0.0"), ("fd01::1", "fd01::")] {
                let sockets = [node.udp(client, ours), node.udp(endpoint, theirs)];
                exchange(&sockets[0], &sockets[1]);
                node.ip(endpoint, "link set nsm-e down");
                let began = Instant::now();
                while !node
                    .ip(client, "neigh show dev nsm-c")
                    .contains("INCOMPLETE")
                {
                    assert!(began.elapsed() < LIMIT, "{ours}: nobody was asked for");
                    let to = sockets[1].local_addr().unwrap();
                    sockets[0].send_to(b"lost", to).unwrap();
                }
                let began = Instant::now();
                let repaired = node.executor.repair(&plan).unwrap();
                assert!(matches!(repaired, Adopted::Repaired(_)), "{ours}");
                sockets[1].recv_from(&mut [0; 16]).unwrap();
                let took = began.elapsed();
                assert!(took <= REPAIRED, "{ours}: {took:?}");
            }
        },
    );
}

/// As the forwarder reads them.
fn differs(executor: &Executor, event: &Event) -> bool {
    match event {
        Event::LinkGone { nsid, index, .. }
        | Event::LinkDown { nsid, index, .. }
        | Event::Emptied { nsid, index } => executor.expected(*nsid, *index).is_some(),
        Event::LinkChanged { nsid, index, look } => executor
            .expected(*nsid, *index)
            .is_some_and(|(_, end)| !look.is(&end)),
        Event::NamespaceGone { .. } | Event::Missed => false,
    }
}
