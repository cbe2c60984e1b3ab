//! Requests, connections and their events, as a peer sends them, and what is read out of them.

use buffa::Message;
use nsm_api::{
    connection::{Connection, ConnectionEvent, MonitorScopeSelector},
    connectioncontext::IPContext,
    networkservice::NetworkServiceRequest,
};
use nsm_forwarder::{End, kernel_side};
use nsm_model::{
    ifname::IfName,
    ipam::PointToPoint,
    path::{self, MAX_PATH_SEGMENTS},
};
use nsm_plan::{Changes, KeyDigest, NetnsId, Plan, Side, cross_connect, diff, undo};
use nsm_rpc::monitor;

use crate::mechanism;

/// Entries that the plan of one connection has at most.
const MAX_ENTRIES: usize = 8192;

/// A request or an event of connections, whichever the bytes are.
pub fn connection(data: &[u8]) {
    let selector = stable::<MonitorScopeSelector>(data);
    if let Some(event) = stable::<ConnectionEvent>(data) {
        for connection in event.connections.values() {
            check(connection, selector.as_ref());
        }
    }
    if let Some(request) = stable::<NetworkServiceRequest>(data) {
        for preference in &request.mechanism_preferences {
            mechanism::check(preference);
        }
        if let Some(connection) = request.connection.as_option() {
            check(connection, selector.as_ref());
        }
    }
}

/// The message in the bytes, if there is one: what this version does not know of stays in it.
pub(crate) fn stable<M: Message + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<M> {
    let message = M::decode_from_slice(data).ok()?;
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len() as usize);
    // An entry of a map is written with its key and its value, also where they are empty.
    assert!(written.len() <= 4 * data.len());
    let again = M::decode_from_slice(&written).unwrap();
    assert!(again == message, "{message:?}\n{again:?}");
    Some(message)
}

fn check(connection: &Connection, selector: Option<&MonitorScopeSelector>) {
    if let Some(mechanism) = connection.mechanism.as_option() {
        mechanism::check(mechanism);
    }
    advance(connection);
    addresses(&connection.context.ip_context);
    plan(connection);
    let all = MonitorScopeSelector {
        path_segments: connection.path.path_segments.clone(),
        ..Default::default()
    };
    assert!(monitor::matches(&all, connection));
    assert!(monitor::matches(
        &MonitorScopeSelector::default(),
        connection
    ));
    if let Some(selector) = selector {
        let long = selector.path_segments.len() > connection.path.path_segments.len();
        assert!(!(long && monitor::matches(selector, connection)));
    }
    for segment in &connection.path.path_segments {
        if let Some(expires) = segment.expires.as_option() {
            let time = nsm_registry::record::time(expires);
            let again = nsm_registry::record::time(&nsm_chain::elements::timestamp(time));
            assert!(again >= time, "before 1970 counts as 1970");
        }
    }
}

fn advance(connection: &Connection) {
    let mut moved = connection.clone();
    let path = moved.path.get_or_insert_default();
    let before = path.clone();
    let Ok(step) = path::advance(&connection.id, path, "own", |up| format!("derived {up}")) else {
        assert!(*path == before);
        return;
    };
    assert!(path.path_segments.len() <= MAX_PATH_SEGMENTS);
    let own = path::own(path).unwrap();
    assert_eq!(
        (own.name.as_str(), &own.id, path.index),
        ("own", &step.id, step.index)
    );
    let left = step.index as usize;
    assert!(
        before
            .path_segments
            .get(..left)
            .is_none_or(|l| l == &path.path_segments[..left])
    );
    // The same request again is the same request.
    let mut again = before.clone();
    let derive = |up: &str| format!("derived {up}");
    assert_eq!(
        path::advance(&connection.id, &mut again, "own", derive),
        Ok(step.clone())
    );
    step.enter(&mut moved);
    assert_eq!(moved.id, step.id);
    step.rewind(&mut moved);
    assert_eq!(
        (moved.id, moved.path.index),
        (step.before_id, step.before_index)
    );
    path::trim(&mut again);
    assert_eq!(again.path_segments.len(), left + 1);
}

fn addresses(context: &IPContext) {
    let groups = ["172.16.1.0/28", "fd00::/124"].map(|net| vec![net.parse().unwrap()]);
    let mut ipam = PointToPoint::new(&groups).unwrap();
    ipam.allocate("somebody else", &IPContext::default())
        .unwrap();
    let taken = ipam.pairs("somebody else").to_vec();
    let Ok(assigned) = ipam.allocate("this one", context) else {
        return assert_eq!(ipam.in_use(), 4, "an error changes nothing");
    };
    assert_eq!((assigned.pairs.len(), ipam.in_use()), (2, 8));
    for pair in &assigned.pairs {
        let ours = [pair.src, pair.dst];
        assert!(
            taken
                .iter()
                .all(|t| !ours.contains(&t.src) && !ours.contains(&t.dst))
        );
        assert!(
            groups
                .iter()
                .flatten()
                .any(|g: &ipnet::IpNet| g.contains(&pair.src))
        );
    }
    let mut written = context.clone();
    assigned.write(&mut written);
    for pair in &assigned.pairs {
        let host = ipnet::IpNet::from(pair.src).to_string();
        assert!(written.src_ip_addrs.contains(&host));
    }
    let once = written.clone();
    assigned.write(&mut written);
    assert!(written == once, "written twice is written once");
    assert_eq!(
        ipam.allocate("this one", &once).unwrap().pairs,
        assigned.pairs
    );
    assert!(ipam.free("this one") && ipam.in_use() == 4);
}

fn plan(connection: &Connection) {
    let side = |end, ino, bare| -> Option<Side> {
        let name: IfName = "nsm-1".parse().unwrap();
        let netns = NetnsId { dev: 4, ino };
        kernel_side(connection, end, netns, name, bare, &[7; 16]).ok()
    };
    let (Some(client), Some(endpoint)) =
        (side(End::Client, 1, false), side(End::Endpoint, 2, false))
    else {
        return;
    };
    let key = KeyDigest([7; 16]);
    let plan = cross_connect(key, &client, &endpoint).unwrap();
    assert!(plan.entries().len() <= MAX_ENTRIES);
    assert_eq!(plan.to_string().lines().count(), plan.entries().len());
    assert!(diff(&plan, &plan).is_empty());
    assert_eq!(diff(&Plan::default(), &plan), Changes::from(&plan));
    let gone = undo(&plan);
    assert!(gone.apply.is_empty() && gone.undo.iter().rev().eq(plan.entries()));
    for (at, entry) in plan.entries().iter().enumerate() {
        let before = &plan.entries()[..at];
        let stands = |id: &nsm_plan::ResourceId| before.iter().any(|b| b.id == *id);
        assert!(entry.after.iter().all(stands), "behind what it depends on");
        assert!(
            before.iter().all(|b| b.id != entry.id),
            "an identity occurs once"
        );
    }
    if let Some(bare) = side(End::Endpoint, 2, true) {
        let plan = cross_connect(key, &client, &bare).unwrap();
        assert!(
            plan.links()
                .flat_map(|(_, link)| link.ends())
                .any(|end| end.bare)
        );
    }
}
