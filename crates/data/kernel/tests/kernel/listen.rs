//! Events of links and namespaces.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nsm_kernel::events::{Event, Listener};
use nsm_kernel::setup;

use crate::support::{Node, isolated, key};

/// How soon the forwarder has to know that a namespace is gone.
const SOON: Duration = Duration::from_millis(100);
/// Bounds a failing test.
const LIMIT: Duration = Duration::from_secs(3);

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
