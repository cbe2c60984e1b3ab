//! The decoders of the kernel's answers without their sockets, for the fuzz targets; nothing else
//! should call them.

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use nsm_model::filter::FilterRules;

use crate::{
    events::{Event, Seen},
    filter::{self, RuleCounter},
    netlink, nsid,
    stats::{self, LinkState},
};

fn messages(datagram: &[u8]) -> impl Iterator<Item = RouteNetlinkMessage> {
    let messages = netlink::parse(datagram).into_iter();
    messages.filter_map(|message| match message.payload {
        NetlinkPayload::InnerMessage(inner) => Some(inner),
        _ => None,
    })
}

/// The links in a datagram.
pub fn links(datagram: &[u8]) -> Vec<LinkState> {
    messages(datagram)
        .filter_map(|message| stats::state(&message))
        .collect()
}

/// The numbers of namespaces in a datagram.
pub fn namespaces(datagram: &[u8]) -> Vec<i32> {
    messages(datagram)
        .filter_map(|message| nsid::number(&message))
        .collect()
}

/// What datagrams tell, one after the other, each from the namespace with its number.
pub fn events(datagrams: &[(&[u8], Option<i32>)]) -> Vec<Event> {
    let mut seen = Seen::default();
    datagrams
        .iter()
        .flat_map(|(datagram, from)| seen.events(datagram, *from))
        .collect()
}

/// The counters in one datagram of a dump with this sequence number, or the kernel's error number.
pub fn counters(datagram: &[u8], sequence: u32) -> Result<Vec<RuleCounter>, i32> {
    filter::counters_in(datagram, sequence)
}

/// How many rules and sets of the kernel's the rules of a filter become.
pub fn lowered(rules: &FilterRules) -> (usize, usize) {
    filter::lowered(rules)
}
