//! Answers of the kernel: links, namespaces, events, counters. A workload can put any name and any
//! alias into its own links.

use nsm_kernel::{decoders, events::Event, stats::LinkState};
use nsm_plan::{ALIAS_PREFIX, GROUP, is_ours};

/// The least that a netlink message has: its header.
const HEADER: usize = 16;

/// A datagram of rtnetlink.
pub fn netlink(data: &[u8]) {
    let most = data.len() / HEADER + 1;
    let links = decoders::links(data);
    assert!(links.len() <= most);
    for link in &links {
        assert!(link.name.len() + link.alias.len() + link.mac.len() <= data.len());
        assert!(link.is_ours() || link.group != GROUP);
    }
    let numbers = decoders::namespaces(data);
    assert!(numbers.len() <= most && numbers.iter().all(|number| *number >= 0));
    let twice = [(data, None), (data, Some(1)), (data, None)];
    for event in decoders::events(&twice) {
        match event {
            Event::NamespaceGone { nsid } => assert!(numbers.contains(&nsid)),
            Event::LinkGone { index, alias, .. } | Event::LinkDown { index, alias, .. } => {
                assert!(alias.starts_with(ALIAS_PREFIX));
                assert!(
                    links
                        .iter()
                        .any(|link| link.index == index && link.alias == alias)
                );
            }
            Event::LinkChanged { index, look, .. } => {
                let is_it = |link: &LinkState| link.index == index && link.name == look.name;
                assert!(links.iter().any(is_it));
            }
            Event::Emptied { index, .. } => assert!(is_ours(index)),
            Event::Missed => {}
        }
    }
}

/// A datagram of nf_tables: a dump of rules with their counters.
pub fn nftables(data: &[u8]) {
    let said = data.get(8..12).and_then(|bytes| bytes.try_into().ok());
    for sequence in [1, said.map_or(0, u32::from_ne_bytes)] {
        match decoders::counters(data, sequence) {
            Ok(counters) => {
                assert!(counters.len() <= data.len() / HEADER);
                let subjects: Vec<_> = counters.iter().map(|one| one.subject).collect();
                assert!(subjects.is_sorted_by(|a, b| a < b), "each once");
            }
            // The kernel's numbers are positive; a forged one may be anything.
            Err(errno) => assert_ne!(errno, i32::MIN),
        }
    }
}
