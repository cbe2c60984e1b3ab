//! Orders that cannot be granted.

use std::{collections::BTreeMap, time::Duration};

use nsm_api::{
    connection::Mechanism,
    registry::{Destination, Match, NetworkService},
};
use nsm_chain::{Code, Target};
use nsm_lab::mesh::{MeshConfig, Workload};
use nsm_model::{
    mechanism::{Kernel, Kind},
    url::{EndpointUrl, InodeUrl},
};
use nsm_rpc::{client::services, inode_url};
use rustix::process::Signal;

use crate::{
    Group, raw,
    world::{
        CONNECTED, PATIENCE, Shape, World, addresses, count, end, ip, last, pings, says, until,
    },
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "orders",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("an unknown service", unknown_service),
        ("a service without endpoints", no_endpoint),
        ("labels that no endpoint matches", no_match),
        ("a mechanism that nobody here has", no_common_mechanism),
        ("an interface name in use", name_in_use),
        ("an empty pool, and one freed", pool_exhausted),
        (
            "descriptors that are missing or none of a namespace",
            descriptors,
        ),
        ("the log's level, by signals", log_level),
    ],
};

/// SIGUSR1 makes a role tell everything, SIGUSR2 what it was started with.
fn log_level(world: &World) {
    let endpoint = world.endpoint(0, "o-level-nse", "o-level", &[]);
    for (at, signal) in [Signal::USR1, Signal::USR2].into_iter().enumerate() {
        endpoint.process.signal(signal.as_raw()).unwrap();
        let changed = || count(&endpoint.log, "the log's level is another one") == at + 1;
        until("the level changes", PATIENCE, changed);
    }
    end(endpoint);
    let log = world.lab.logs().join("o-level-nse.log");
    assert_eq!(count(&log, "everything is told"), 1);
}

fn refusals(world: &World, rows: &[(&str, &str, &[&str])]) {
    let before = world.census(&[]);
    for (name, url, parts) in rows {
        says(&world.refused(0, name, url, &[]), parts);
    }
    world.as_before(&before, &[]);
}

fn unknown_service(world: &World) {
    refusals(
        world,
        &[
            (
                "o-unknown",
                "kernel://nobody-knows/nsm-1",
                &["\"nobody-knows\"", "network service"],
            ),
            ("o-domain", "kernel://svc@nowhere/nsm-1", &["svc@nowhere"]),
        ],
    );
}

fn no_endpoint(world: &World) {
    register(world, "o-empty", Vec::new());
    refusals(
        world,
        &[(
            "o-noone",
            "kernel://o-empty/nsm-1",
            &["\"o-empty\"", "no endpoint is registered", "start one"],
        )],
    );
}

/// A service of these matches.
pub(crate) fn register(world: &World, name: &str, matches: Vec<Match>) {
    let service = NetworkService {
        name: name.to_owned(),
        payload: "ETHERNET".to_owned(),
        matches,
        ..Default::default()
    };
    let target = Target::Url(EndpointUrl::parse(&world.mesh.registry_url()));
    raw::speak(world, 0, raw::known(world, "operator/tests"), async |raw| {
        let hop = raw.hop(&target).await.unwrap();
        let mut path = nsm_api::connection::Path::default();
        services::register(&hop.peer, &hop.tokens, service, &mut path, raw::soon())
            .await
            .unwrap();
    });
}

/// Whoever has these labels goes to whoever has those.
pub(crate) fn route(source: &[(&str, &str)], destination: &[(&str, &str)]) -> Match {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    let destination = Destination {
        destination_selector: labels(destination),
        ..Default::default()
    };
    Match {
        source_selector: labels(source),
        routes: vec![destination],
        ..Default::default()
    }
}

fn no_match(world: &World) {
    let choosy = || route(&[("app", "camera")], &[("app", "gateway")]);
    register(world, "o-choosy", vec![choosy()]);
    let env = [
        ("NSM_LABELS", "app:gateway"),
        ("NSM_REGISTER_SERVICE", "false"),
    ];
    let endpoint = world.endpoint(0, "o-choosy-nse", "o-choosy", &env);
    let url = "kernel://o-choosy/nsm-1?app=toaster";
    let parts: [&[&str]; 2] = [
        &["\"o-choosy\"", "none of its 1 matches", "toaster"],
        &[
            "\"o-choosy\"",
            "none of its 1 endpoints",
            "toaster",
            "matches",
        ],
    ];
    refusals(world, &[("o-nosource", url, parts[0])]);
    register(world, "o-choosy", vec![route(&[], &[("app", "printer")])]);
    refusals(world, &[("o-noprinter", url, parts[1])]);
    register(world, "o-choosy", vec![choosy()]);
    end(world.client(0, "o-camera", "kernel://o-choosy/nsm-1?app=camera", &[]));
    end(endpoint);
}

fn no_common_mechanism(world: &World) {
    let endpoint = world.endpoint(0, "o-mech-nse", "o-mech", &[]);
    refusals(
        world,
        &[(
            "o-memif",
            "memif://o-mech/nsm-1",
            &["no common mechanism", "MEMIF", "KERNEL"],
        )],
    );
    let before = world.census(&[endpoint.pod.cell()]);
    let error = raw::speak(world, 0, raw::known(world, "pigeon"), async |raw| {
        let odd = Mechanism {
            r#type: "PIGEON".to_owned(),
            cls: "LOCAL".to_owned(),
            ..Default::default()
        };
        let ask = raw::request("o-pigeon", "o-mech", vec![odd]);
        raw.request(&raw::manager(world, 0), ask).await.unwrap_err()
    });
    assert_eq!(error.code, Code::Unimplemented, "{error}");
    says(&error.message, &["no common mechanism", "PIGEON", "KERNEL"]);
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(endpoint);
}

fn name_in_use(world: &World) {
    let endpoint = world.endpoint(1, "o-name-nse", "o-name", &[]);
    let local = world.endpoint(0, "o-name-here", "o-here", &[]);
    for service in ["o-name", "o-here"] {
        let pod = world
            .mesh
            .pod(world.mesh.node(0), &format!("{service}-taken"))
            .unwrap();
        assert_eq!(ip(pod.cell(), "link add nsm-1 type bridge"), "");
        let cells = [endpoint.pod.cell(), local.pod.cell(), pod.cell()];
        let before = world.census(&cells);
        let run = World::program("client", &[])
            .env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1"));
        let client = world
            .mesh
            .run_in(pod.clone(), run, crate::world::READY)
            .unwrap();
        says(
            &world.complaint(&client),
            &["nsm-1", "in use", "another name"],
        );
        // Once the name is free it is granted without being asked anew.
        ip(pod.cell(), "link del nsm-1");
        until("granted after all", PATIENCE, || {
            count(&client.log, CONNECTED) == 1
        });
        crate::world::stopped(&client.process);
        until("the name is free", Duration::from_secs(2), || {
            ip(pod.cell(), "link add nsm-1 type bridge").is_empty()
        });
        world.as_before(&before, &cells);
        pod.kill();
    }
    end(endpoint);
    end(local);
}

fn pool_exhausted(world: &World) {
    let endpoint = world.endpoint(
        1,
        "o-pool-nse",
        "o-pool",
        &[("NSM_CIDR_PREFIX", "10.9.9.0/31")],
    );
    let first = world.client(0, "o-pool-1", "kernel://o-pool/nsm-1", &[]);
    let cells = [endpoint.pod.cell(), first.pod.cell()];
    let before = world.census(&cells);
    let second = world.asking(1, "o-pool-2", "kernel://o-pool/nsm-1", &[]);
    says(
        &world.complaint(&second),
        &["no two free addresses", "10.9.9.0/31", "2 of 2 are in use"],
    );
    world.as_before(&before, &cells);
    assert!(
        pings(first.pod.cell(), &addresses(&first).1[0]),
        "the first one is unharmed"
    );
    end(first);
    until("the second gets what the first gave back", PATIENCE, || {
        count(&second.log, CONNECTED) == 1
    });
    let told = last(&second.log, CONNECTED);
    assert!(
        told["addresses"].as_str().unwrap().starts_with("10.9.9."),
        "{told}"
    );
    end(second);
    end(endpoint);
}

/// A KERNEL mechanism of that inode.
fn kernel(inode: Option<InodeUrl>) -> Mechanism {
    let kernel = Kernel {
        netns: inode,
        name: Some("nsm-1".parse().unwrap()),
        bare: false,
    };
    kernel.mechanism()
}

fn descriptors(world: &World) {
    let endpoint: Workload = world.endpoint(1, "o-fd-nse", "o-fd", &[]);
    let pod = world.mesh.pod(world.mesh.node(0), "o-fd-pod").unwrap();
    let cells = [endpoint.pod.cell(), pod.cell()];
    let before = world.census(&cells);
    let netns = pod.cell().open_network().unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let (inode, other) = (inode_url(&netns).unwrap(), inode_url(&file).unwrap());
    let text = |inode: InodeUrl| inode.to_string();
    let odd = || {
        let mut odd = Kind::Kernel.mechanism();
        odd.parameters
            .insert("inodeURL".to_owned(), "inode://x/y".to_owned());
        odd
    };
    let rows: [(&str, Mechanism, Option<&std::fs::File>, &[&str]); 5] = [
        (
            "not sent",
            kernel(Some(inode)),
            None,
            &["inodeURL", &text(inode), "send that descriptor"],
        ),
        (
            "another one sent",
            kernel(Some(inode)),
            Some(&file),
            &["inodeURL", &text(inode), "send that descriptor"],
        ),
        (
            "a file's",
            kernel(Some(other)),
            Some(&file),
            &[&text(other), "not a network namespace"],
        ),
        (
            "not named",
            kernel(None),
            Some(&netns),
            &["inodeURL", "inode://<device>/<inode>"],
        ),
        ("malformed", odd(), None, &["inodeURL", "inode://x/y"]),
    ];
    for (at, (name, mechanism, sent, parts)) in rows.into_iter().enumerate() {
        let id = format!("o-fd-{at}");
        let error = raw::speak(world, 0, raw::known(world, &id), async |raw| {
            let target = raw::manager(world, 0);
            let hop = raw.hop(&target).await.unwrap();
            if let Some(sent) = sent {
                hop.peer.descriptors().send(sent).unwrap();
            }
            let ask = raw::request(&id, "o-fd", vec![mechanism]);
            raw.request(&target, ask).await.unwrap_err()
        });
        assert_eq!(error.code, Code::InvalidArgument, "{name}: {error}");
        says(&error.message, parts);
        says(&error.message, &["connection "]);
    }
    drop(netns);
    world.as_before(&before, &cells);
    pod.kill();
    end(endpoint);
}
