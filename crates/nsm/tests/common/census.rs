//! What there is: in the kernel of each namespace, and in the tables of each role.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use nsm_lab::Cell;

use super::{raw, world::World};

/// How long what was closed may stay: invariant 3.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(2);
/// A busy machine's allowance, and the tables' own.
const SLACK: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(30);

/// One line for each thing.
pub(crate) type Census = BTreeSet<String>;

impl World {
    /// The nodes' and the pods' kernels, the registry, every manager's and forwarder's connections.
    pub(crate) fn census(&self, pods: &[&Cell]) -> Census {
        let mut census = self.kernels(pods);
        census.extend(self.tables());
        census
    }

    fn kernels(&self, pods: &[&Cell]) -> Census {
        let nodes = self.mesh.nodes().iter().map(|node| node.node().cell());
        nodes.chain(pods.iter().copied()).flat_map(kernel).collect()
    }

    pub(crate) fn tables(&self) -> Census {
        let mut rows = Census::new();
        for at in 0..self.mesh.nodes().len() {
            rows.extend(raw::connections(self, at));
        }
        rows.extend(raw::registry(self));
        rows
    }

    /// All is as it was, or becomes so in time.
    pub(crate) fn as_before(&self, before: &Census, pods: &[&Cell]) {
        self.as_before_within(before, pods, GONE_WITHIN + SLACK);
    }

    pub(crate) fn as_before_within(&self, before: &Census, pods: &[&Cell], time: Duration) {
        let began = Instant::now();
        loop {
            let now = self.census(pods);
            if now == *before {
                return;
            }
            if began.elapsed() > time {
                let more: Vec<_> = now.difference(before).collect();
                let less: Vec<_> = before.difference(&now).collect();
                panic!("after {time:?}: left {more:#?}, missing {less:#?}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Links, addresses and routes of a cell's namespace.
pub(crate) fn kernel(cell: &Cell) -> Vec<String> {
    let name = cell.name();
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let texts = cell.within(|| {
        (
            read("dev"),
            read("fib_trie"),
            read("if_inet6"),
            read("route"),
            read("ipv6_route"),
        )
    });
    let (dev, local, six, route, route6) = texts.unwrap();
    let words = |line: &str, which: &[usize]| -> String {
        let all: Vec<&str> = line.split_whitespace().collect();
        which
            .iter()
            .filter_map(|at| all.get(*at).copied())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let links = dev
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        // The way between nodes is asked while there are tunnels, and a moment longer.
        .filter(|link| link.trim() != "nsm-probe")
        .map(|link| format!("link {}", link.trim()));
    let locals = local
        .lines()
        .filter(|line| line.contains("|--"))
        .map(|line| format!("ipv4 {}", words(line, &[1])));
    // Every link that is up gets a link-local address, after a while.
    let lasting = |line: &&str| !line.starts_with("fe80") && !line.starts_with("ff00");
    let sixes = six
        .lines()
        .filter(lasting)
        .map(|line| format!("ipv6 {}", words(line, &[0, 5])));
    let routes = route
        .lines()
        .skip(1)
        .map(|line| format!("route {}", words(line, &[0, 1, 2, 7])));
    let routes6 = route6
        .lines()
        .filter(lasting)
        .map(|line| format!("route6 {}", words(line, &[0, 1, 4, 9])));
    links
        .chain(locals)
        .chain(sixes)
        .chain(routes)
        .chain(routes6)
        .map(|row| format!("{name}: {row}"))
        .collect()
}

/// The links of a cell, loopback aside.
pub(crate) fn links(cell: &Cell) -> Vec<String> {
    let prefix = format!("{}: link ", cell.name());
    kernel(cell)
        .iter()
        .filter_map(|row| row.strip_prefix(&prefix))
        .filter(|link| *link != "lo")
        .map(str::to_owned)
        .collect()
}
