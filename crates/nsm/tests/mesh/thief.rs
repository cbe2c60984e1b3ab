//! What the maker of a connection knows of it, used by somebody else.

use std::fs::File;

use nsm_api::{
    connection::{Connection, Mechanism, MonitorScopeSelector, PathSegment},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::Code;
use nsm_model::mechanism::Kernel;
use nsm_rpc::{Hop, client, inode_url};

use crate::{
    raw,
    world::{World, addresses, end, pings},
};

/// Asks, closes and watches with somebody else's path and ids.
pub(crate) fn stolen(world: &World) {
    let endpoint = world.endpoint(0, "t-own-nse", "t-own", &[]);
    let client = world.client(0, "t-owner", "kernel://t-own/nsm-1", &[]);
    let thief_pod = world.mesh.pod(world.mesh.node(0), "t-robber").unwrap();
    let cells = [endpoint.pod.cell(), client.pod.cell(), thief_pod.cell()];
    let before = world.census(&cells);
    let known = raw::seen(world, 0, "t-owner");
    let netns = thief_pod.cell().open_network().unwrap();
    raw::speak(world, 0, raw::known(world, "t-robber"), async |raw| {
        let target = raw::manager(world, 0);
        let hop = raw.hop(&target).await.unwrap();
        // The whole path, and only its beginning, as its maker would ask and close.
        for (whole, index) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
            robs(&hop, &known, &netns, whole, index).await;
        }
        let nothing = raw::connections_of(raw, &target).await.unwrap();
        assert!(
            nothing.is_empty(),
            "who is not on the path sees nothing: {nothing:?}"
        );
        let named = PathSegment {
            id: known.id.clone(),
            ..Default::default()
        };
        let selector = MonitorScopeSelector {
            path_segments: vec![named],
            ..Default::default()
        };
        let watched = client::monitor(&hop.peer, &hop.tokens, selector, raw::soon()).await;
        let refused = watched.expect_err("it is somebody else's");
        assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    });
    drop(netns);
    audited(world);
    assert!(
        pings(client.pod.cell(), &addresses(&client).1[0]),
        "it is unharmed"
    );
    world.as_before(&before, &cells);
    thief_pod.kill();
    end(client);
    end(endpoint);
}

/// Closes and asks for a connection as if it stood at this segment of its path.
async fn robs(hop: &Hop, known: &Connection, netns: &File, whole: bool, index: u32) {
    let mut connection = known.clone();
    let path = connection.path.get_or_insert_default();
    if !whole {
        path.path_segments.truncate(index as usize + 1);
    }
    path.index = index;
    connection.id = path.path_segments[index as usize].id.clone();
    // The first segment alone may be anybody's: it begins a path of the thief's own.
    let own = index == 0 && !whole;
    let closed = client::close(&hop.peer, &hop.tokens, connection.clone(), raw::soon()).await;
    assert_eq!(closed.is_ok(), own, "{closed:?}");
    hop.peer.descriptors().send(netns).unwrap();
    let ask = NetworkServiceRequest {
        connection: buffa::MessageField::some(connection),
        mechanism_preferences: vec![mechanism(netns)],
        ..Default::default()
    };
    match client::request(&hop.peer, &hop.tokens, ask, raw::soon()).await {
        // Another connection of the same name.
        Ok(granted) => {
            assert!(own, "a segment that is not the caller's");
            client::close(&hop.peer, &hop.tokens, granted, raw::soon())
                .await
                .unwrap();
        }
        Err(error) if own => assert_ne!(error.code, Code::PermissionDenied, "{error}"),
        Err(error) => assert_eq!(error.code, Code::PermissionDenied, "{error}"),
    }
}

fn mechanism(netns: &File) -> Mechanism {
    let mechanism = Kernel {
        netns: Some(inode_url(netns).unwrap()),
        name: Some("nsm-1".parse().unwrap()),
        bare: false,
    };
    let mut mechanism = mechanism.mechanism();
    mechanism.cls = "LOCAL".to_owned();
    mechanism
}

/// Each denial is a line with who, what and why.
fn audited(world: &World) {
    let log = std::fs::read_to_string(world.lab.logs().join("manager-node-1.log")).unwrap();
    for what in ["close", "request", "monitor"] {
        let what = format!("{what} connection");
        let parts = [
            "audit",
            "denied",
            "owner",
            "spiffe://nsm.lab/t-robber",
            &what,
        ];
        let told = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(log.lines().any(told), "{what}: {log}");
    }
}
