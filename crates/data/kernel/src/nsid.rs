//! Namespaces' numbers in the node's namespace: they outlive our process and pin nothing.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::NsidAttribute;

use crate::error::KernelError;
use crate::messages::{get_nsid, list_nsids, new_nsid};
use crate::netlink::{Outcome, Socket};
use crate::netns::NetnsFd;

/// The numbers of these namespaces, given where they have none, in one send.
pub(crate) fn ensure(node: &mut Socket, namespaces: &[&NetnsFd]) -> Result<Vec<i32>, KernelError> {
    let requests: Vec<_> = namespaces
        .iter()
        .flat_map(|netns| [new_nsid(netns), get_nsid(netns)])
        .collect();
    let outcomes = node.batch(&requests)?;
    let pairs = outcomes.chunks_exact(2).zip(namespaces);
    pairs
        .map(|(pair, netns)| match pair {
            // EEXIST: it has a number. Any other refusal shows in the answer to the question.
            [_, Ok(replies)] => replies
                .iter()
                .find_map(number)
                .ok_or_else(|| unnumbered(netns, pair)),
            _ => Err(unnumbered(netns, pair)),
        })
        .collect()
}

fn unnumbered(netns: &NetnsFd, outcomes: &[Outcome]) -> KernelError {
    let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    refused.cloned().unwrap_or_else(|| {
        KernelError::new("number namespace", netns.id().to_string(), libc::ENOENT)
    })
}

/// Every number in use in the socket's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn all(node: &mut Socket) -> Result<Vec<i32>, KernelError> {
    Ok(node
        .dump(&list_nsids())?
        .iter()
        .filter_map(number)
        .collect())
}

pub(crate) fn number(message: &RouteNetlinkMessage) -> Option<i32> {
    let (RouteNetlinkMessage::NewNsId(nsid) | RouteNetlinkMessage::DelNsId(nsid)) = message else {
        return None;
    };
    nsid.attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        })
}
