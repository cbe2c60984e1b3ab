//! What is healed and what is left alone, by the packets.

use std::{net::SocketAddr, time::Duration};

use nsm_lab::{
    Cell, Lost, Process, Silence,
    measure::UdpFlow,
    mesh::{MeshConfig, Workload},
    serve,
};

use crate::{
    Group,
    census::links,
    orders::{register, route},
    world::{CONNECTED, PATIENCE, READY, Shape, World, addresses, count, end, last, pings, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "heals",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("the endpoint's process alone is killed", process_killed),
        ("the endpoint is silent", |world| silent(world, false)),
        ("the endpoint is silent and its process killed", |world| {
            silent(world, true)
        }),
        ("the endpoint no longer fits", relabelled),
        ("tunnels are lost, the control plane is not", |world| {
            lossy(world, Lost::Datagrams)
        }),
        ("everything between nodes is lost", |world| {
            lossy(world, Lost::Everything)
        }),
    ],
};

const ECHO: u16 = 7;

/// A client on the first node, two endpoints of which one serves it, and packets.
struct Stage {
    service: String,
    used: Workload,
    other: Workload,
    client: Workload,
    flow: UdpFlow,
    _server: Process,
}

fn stage(world: &World, service: &str, at: [usize; 2]) -> Stage {
    let names = [1, 2].map(|n| format!("{service}-{n}"));
    let [a, b] = [0, 1].map(|n| world.endpoint(at[n], &names[n], service, &[]));
    let url = format!("kernel://{service}/nsm-1");
    let client = world.client(0, &format!("{service}-nsc"), &url, &[]);
    let serving = last(&client.log, CONNECTED)["endpoint"].to_string();
    let (used, other) = if serving.contains(&names[0]) {
        (a, b)
    } else {
        (b, a)
    };
    let server = serve::start(used.pod.cell(), &[], &[ECHO]).unwrap();
    let peer = addresses(&client).1[0].parse().unwrap();
    let flow = UdpFlow::start(client.pod.cell(), SocketAddr::new(peer, ECHO), 200).unwrap();
    assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
    Stage {
        service: service.to_owned(),
        used,
        other,
        client,
        flow,
        _server: server,
    }
}

/// The number and the name of every interface of ours in a cell.
fn interfaces(cell: &Cell) -> Vec<String> {
    let shown = crate::world::ip(cell, "-o link show");
    let ours = shown.lines().filter(|line| line.contains("nsm"));
    ours.map(|line| line.split('@').next().unwrap_or(line).to_owned())
        .collect()
}

/// Its packets flow: nobody moves, and nobody else gets its addresses when it is back.
fn process_killed(world: &World) {
    for (place, at) in [("near", 0), ("far", 1)] {
        let stage = stage(world, &format!("h-process-{place}"), [at, at]);
        let before = interfaces(stage.client.pod.cell());
        let began = stage.flow.now();
        stage.used.process.signal(9).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        let pod = stage.used.pod.clone();
        let again = World::program("endpoint", &[("NSM_SERVICE_NAMES", &stage.service)])
            .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock");
        let again = world.mesh.run_in(pod, again, READY).unwrap();
        // Whoever comes now has addresses of its own.
        let url = format!("kernel://{}/nsm-1", stage.service);
        let [x, y] = [1, 2].map(|n| {
            let name = format!("{}-new-{n}", stage.service);
            world.client(0, &name, &url, &[])
        });
        let taken = [&stage.client, &x, &y].map(|one| {
            let endpoint = last(&one.log, CONNECTED)["endpoint"].to_string();
            (endpoint, addresses(one).0)
        });
        let different: std::collections::BTreeSet<_> = taken.iter().collect();
        assert_eq!(different.len(), taken.len(), "{taken:?}");
        end(x);
        end(y);
        until("asked for again", PATIENCE, || {
            count(&stage.client.log, "healed") >= 1
        });
        let now = stage.flow.now();
        assert!(stage.flow.wait_answer(now, PATIENCE));
        let report = stage.flow.report(began, now);
        let lost = report.lost.saturating_sub(report.receive_drops);
        assert_eq!(lost, 0, "{place}: {report:?}");
        assert_eq!(interfaces(stage.client.pod.cell()), before, "{place}");
        assert!(
            !last(&stage.client.log, "healed")["reselect"]
                .as_bool()
                .unwrap()
        );
        assert!(links(stage.other.pod.cell()).is_empty(), "nobody moved");
        let Stage {
            other,
            client,
            flow,
            ..
        } = stage;
        drop(flow);
        end(client);
        until("closed", Duration::from_secs(3), || {
            links(again.pod.cell()).is_empty()
        });
        end(again);
        end(other);
    }
}

/// Nobody is told: the client notices by itself, and faster where its control plane is in doubt.
fn silent(world: &World, killed: bool) {
    for (place, at) in [("near", 0), ("far", 1)] {
        let stage = stage(world, &format!("h-silent-{killed}-{place}"), [at, at]);
        // A look has found that it answers.
        std::thread::sleep(Duration::from_secs(3));
        let (own, peers) = addresses(&stage.client);
        let rule = format!("rule add pref 1 to {}/32 blackhole", own[0]);
        crate::world::ip(stage.used.pod.cell(), &rule);
        let began = std::time::Instant::now();
        if killed {
            stage.used.process.signal(9).unwrap();
        }
        until("healed", PATIENCE, || {
            count(&stage.client.log, "healed") >= 1
        });
        println!("{}: {} ms", stage.service, began.elapsed().as_millis());
        assert!(
            last(&stage.client.log, "healed")["reselect"]
                .as_bool()
                .unwrap()
        );
        assert_eq!(links(stage.other.pod.cell()).len(), 1);
        assert!(pings(stage.client.pod.cell(), &peers[0]));
        let Stage {
            used,
            other,
            client,
            flow,
            ..
        } = stage;
        drop(flow);
        end(client);
        used.pod.kill();
        end(other);
    }
}

/// A filter on the underlay: nobody is told, and another endpoint serves within a second.
fn lossy(world: &World, lost: Lost) {
    let service = format!("h-loss-{lost:?}").to_lowercase();
    let far = world.endpoint(1, &format!("{service}-far"), &service, &[]);
    let url = format!("kernel://{service}/nsm-1");
    let client = world.client(0, &format!("{service}-nsc"), &url, &[]);
    let near = world.endpoint(0, &format!("{service}-near"), &service, &[]);
    let _servers = [&far, &near].map(|one| serve::start(one.pod.cell(), &[], &[ECHO]).unwrap());
    let peer = addresses(&client).1[0].parse().unwrap();
    let flow = UdpFlow::start(client.pod.cell(), SocketAddr::new(peer, ECHO), 200).unwrap();
    assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
    // The way has been asked, and has answered.
    std::thread::sleep(Duration::from_secs(1));
    let began = flow.now();
    let nodes = [0, 1].map(|at| world.mesh.node(at).node());
    let silence = Silence::start(nodes[0], nodes[1], lost).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass again");
    let report = flow.report(began, flow.now());
    println!("{service}: outage {} ms", report.outage_ms);
    assert!(report.outage_ms <= 1000.0, "{report:?}");
    assert_eq!(links(near.pod.cell()).len(), 1);
    silence.end().unwrap();
    drop(flow);
    end(client);
    let asked = |at: usize| {
        let node = world.mesh.node(at).node().cell();
        crate::world::ip(node, "-o link show").contains("nsm-probe")
    };
    until("nobody asks", PATIENCE, || !asked(0) && !asked(1));
    until("closed", Duration::from_secs(20), || {
        links(near.pod.cell()).is_empty() && links(far.pod.cell()).is_empty()
    });
    end(near);
    end(far);
}

/// Its service chooses others from now on: its client moves, and nobody lost its control plane.
fn relabelled(world: &World) {
    let red = [
        ("NSM_LABELS", "color:red"),
        ("NSM_REGISTER_SERVICE", "false"),
    ];
    let blue = [
        ("NSM_LABELS", "color:blue"),
        ("NSM_REGISTER_SERVICE", "false"),
    ];
    let one = world.endpoint(1, "h-fits-red", "h-fits", &red);
    let choose = |color| register(world, "h-fits", vec![route(&[], &[("color", color)])]);
    choose("red");
    let two = world.endpoint(1, "h-fits-blue", "h-fits", &blue);
    let client = world.client(0, "h-fits-nsc", "kernel://h-fits/nsm-1", &[]);
    assert_eq!(links(one.pod.cell()).len(), 1);
    choose("blue");
    until("it has moved", PATIENCE, || {
        links(two.pod.cell()).len() == 1 && links(one.pod.cell()).is_empty()
    });
    let peer = addresses(&client).1[0].clone();
    until("packets pass", PATIENCE, || pings(client.pod.cell(), &peer));
    end(client);
    end(one);
    end(two);
}
