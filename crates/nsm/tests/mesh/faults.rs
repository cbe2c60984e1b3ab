//! Processes and pods that die.

use std::{net::SocketAddr, time::Duration};

use nsm_lab::{Cell, Exit, measure::UdpFlow, mesh::MeshConfig, serve};

use crate::{
    Group,
    census::{GONE_WITHIN, links},
    world::{
        CONNECTED, PATIENCE, Shape, World, addresses, count, end, pings, stopped, until, wait_for,
    },
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "faults",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("the endpoint's pod is killed", endpoint_killed),
        ("the client's pod is killed", client_killed),
        ("the client's process is killed", client_process_killed),
        ("the client's interface is removed", interface_removed),
        ("interfaces are set down", interfaces_down),
        (
            "the client is ended while it is refused",
            ended_while_refused,
        ),
        ("the endpoint is ended", endpoint_ended),
        ("init connects and leaves", init_leaves),
    ],
};

const ECHO: u16 = 7;

/// A flow to a server at a service address that both endpoints have.
fn flow(from: &Cell) -> UdpFlow {
    let to: SocketAddr = format!("{SERVICE_ADDRESS}:{ECHO}").parse().unwrap();
    UdpFlow::start(from, to, 500).unwrap()
}

const SERVICE_ADDRESS: &str = "192.168.200.1";

fn with_service(pod: &Cell) {
    crate::world::ip(pod, &format!("addr add {SERVICE_ADDRESS}/32 dev lo"));
    let _lives_with_its_pod = serve::start(pod, &[], &[ECHO]).unwrap();
}

fn killed(world: &World, name: &str, kill: impl Fn(&nsm_lab::mesh::Workload)) {
    let env = [
        ("NSM_CIDR_PREFIX", "10.1.0.0/24"),
        ("NSM_ROUTES", "192.168.200.0/24"),
    ];
    for (place, at) in [("near", 0), ("far", 1)] {
        let service = format!("{name}-{place}");
        let (one, two) = (format!("{service}-1"), format!("{service}-2"));
        let endpoints = [
            world.endpoint(at, &one, &service, &env),
            world.endpoint(at, &two, &service, &env),
        ];
        for endpoint in &endpoints {
            with_service(endpoint.pod.cell());
        }
        let [a, b] = &endpoints;
        let before = world.census(&[a.pod.cell(), b.pod.cell()]);
        let client = world.client(
            0,
            &format!("{service}-nsc"),
            &format!("kernel://{service}/nsm-1"),
            &[],
        );
        let serving = crate::world::last(&client.log, CONNECTED)["endpoint"]
            .as_str()
            .unwrap()
            .to_owned();
        let (used, other) = if serving == one { (a, b) } else { (b, a) };
        assert!(serving == one || serving == two, "{serving}");
        let kept = client_addresses(&client);
        let flow = flow(client.pod.cell());
        assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
        let began = flow.now();
        kill(used);
        until("healed", PATIENCE, || count(&client.log, "healed") >= 1);
        let mark = flow.now();
        assert!(flow.wait_answer(mark, PATIENCE), "packets pass again");
        let report = flow.report(began, mark);
        println!("{service}: outage {} ms", report.outage_ms);
        assert!(report.outage_ms < 1000.0, "{report:?}");
        assert_eq!(client_addresses(&client), kept, "the addresses are kept");
        until("one interface", GONE_WITHIN, || {
            links(client.pod.cell()).len() == 1
        });
        assert_eq!(links(other.pod.cell()).len(), 1);
        drop(flow);
        end(client);
        let is_of_used = |row: &String| {
            row.starts_with(&format!("{}: ", used.pod.name()))
                || row.starts_with(&format!("endpoint {} ", used.pod.name()))
        };
        // The dead one's record in the registry lasts until it expires.
        let rest = |census: crate::census::Census| -> Vec<String> {
            census.into_iter().filter(|row| !is_of_used(row)).collect()
        };
        let wanted = rest(before);
        let mut now = Vec::new();
        let as_before = wait_for(Duration::from_secs(6), || {
            now = rest(world.census(&[other.pod.cell()]));
            (now == wanted).then_some(())
        });
        if as_before.is_none() {
            now.retain(|row| !wanted.contains(row));
            panic!("left: {now:#?}");
        }
        used.pod.kill();
        other.pod.kill();
    }
}

/// What `nsm-1` has.
fn client_addresses(client: &nsm_lab::mesh::Workload) -> String {
    let shown = crate::world::ip(client.pod.cell(), "-o addr show nsm-1 scope global");
    let shown: Vec<&str> = shown
        .split_whitespace()
        .filter(|word| word.contains('.'))
        .collect();
    assert!(!shown.is_empty(), "nsm-1 has an address");
    shown.join(" ")
}

fn endpoint_killed(world: &World) {
    killed(world, "f-pod", |endpoint| endpoint.pod.kill());
}

fn client_killed(world: &World) {
    for (place, at) in [("near", 0), ("far", 1)] {
        let service = format!("f-client-{place}");
        // One lease: whoever comes next shows that it is free.
        let endpoint = world.endpoint(
            at,
            &format!("{service}-nse"),
            &service,
            &[("NSM_CIDR_PREFIX", "10.2.0.0/31")],
        );
        let before = world.census(&[endpoint.pod.cell()]);
        let client = world.client(
            0,
            &format!("{service}-1"),
            &format!("kernel://{service}/nsm-1"),
            &[],
        );
        // The roles hold the namespace's descriptor a moment longer than its request.
        std::thread::sleep(Duration::from_secs(1));
        client.pod.kill();
        let made = format!("connection of {service}-1-0 DOWN");
        until("gone", GONE_WITHIN, || {
            // The manager knows of its end, and forgets it with its lease.
            let now = world.census(&[endpoint.pod.cell()]);
            now.iter().filter(|row| !row.contains(&made)).eq(&before)
        });
        let next = world.client(
            0,
            &format!("{service}-2"),
            &format!("kernel://{service}/nsm-1"),
            &[],
        );
        assert!(pings(next.pod.cell(), &addresses(&next).1[0]));
        end(next);
        end(endpoint);
    }
}

/// The pod stays, so that only its lease says that the client is gone.
fn client_process_killed(world: &World) {
    let endpoint = world.endpoint(
        1,
        "f-lease-nse",
        "f-lease",
        &[("NSM_CIDR_PREFIX", "10.2.1.0/31")],
    );
    let pod = world.mesh.pod(world.mesh.node(0), "f-lease-1").unwrap();
    let cells = [endpoint.pod.cell(), pod.cell()];
    let before = world.census(&cells);
    let run = World::program("client", &[("NSM_MAX_TOKEN_LIFETIME", "4s")])
        .env("NSM_NETWORK_SERVICES", "kernel://f-lease/nsm-1");
    let client = world.mesh.run_in(pod.clone(), run, CONNECTED).unwrap();
    // Its refreshes keep it beyond its first lease.
    std::thread::sleep(Duration::from_secs(6));
    assert!(
        pings(pod.cell(), &addresses(&client).1[0]),
        "it is refreshed"
    );
    client.process.signal(9).unwrap();
    assert!(
        pings(pod.cell(), &addresses(&client).1[0]),
        "the lease is not over"
    );
    world.as_before_within(&before, &cells, Duration::from_secs(9));
    let next = world.client(0, "f-lease-2", "kernel://f-lease/nsm-1", &[]);
    end(next);
    pod.kill();
    end(endpoint);
}

/// Somebody removes the interface in the pod: it is made again.
fn interface_removed(world: &World) {
    for (place, at) in [("near", 0), ("far", 1)] {
        let service = format!("f-link-{place}");
        let endpoint = world.endpoint(at, &format!("{service}-nse"), &service, &[]);
        let before = world.census(&[endpoint.pod.cell()]);
        let client = world.client(
            0,
            &format!("{service}-nsc"),
            &format!("kernel://{service}/nsm-1"),
            &[],
        );
        let peer = addresses(&client).1[0].clone();
        crate::world::ip(client.pod.cell(), "link del nsm-1");
        until("the interface is back", PATIENCE, || {
            links(client.pod.cell()) == ["nsm-1"] && pings(client.pod.cell(), &peer)
        });
        end(client);
        world.as_before(&before, &[endpoint.pod.cell()]);
        end(endpoint);
    }
}

/// Somebody sets an interface down: it is up again, and what was asked meanwhile is asked again.
fn interfaces_down(world: &World) {
    let env = [("NSM_ROUTES", "192.168.200.0/24")];
    for (place, at) in [("near", 0), ("far", 1)] {
        let service = format!("f-down-{place}");
        let endpoint = world.endpoint(at, &format!("{service}-nse"), &service, &env);
        with_service(endpoint.pod.cell());
        let (name, url) = (
            format!("{service}-nsc"),
            format!("kernel://{service}/nsm-1"),
        );
        let client = world.client(0, &name, &url, &[]);
        let flow = flow(client.pod.cell());
        assert!(flow.wait_answer(flow.now(), PATIENCE), "packets pass");
        for workload in [&client, &endpoint, &endpoint] {
            std::thread::sleep(Duration::from_millis(200));
            let pod = workload.pod.cell();
            let began = flow.now();
            crate::world::ip(pod, &format!("link set {} down", links(pod)[0]));
            let mark = flow.now();
            assert!(flow.wait_answer(mark, PATIENCE), "packets pass again");
            let outage = flow.report(began, flow.now()).outage_ms;
            println!("{}: outage {outage} ms", workload.pod.name());
            assert!(outage <= 200.0, "{outage}");
        }
        drop(flow);
        end(client);
        end(endpoint);
    }
}

fn ended_while_refused(world: &World) {
    let before = world.census(&[]);
    let client = world.asking(0, "f-term", "kernel://f-nobody/nsm-1", &[]);
    let _refused = world.complaint(&client);
    end(client);
    // Also before the first answer came.
    let client = world.asking(0, "f-term-2", "kernel://f-nobody/nsm-1", &[]);
    end(client);
    // And while its manager is away.
    let node = world.mesh.node(1);
    node.kill("manager");
    let client = world.asking(1, "f-term-3", "kernel://f-nobody/nsm-1", &[]);
    std::thread::sleep(Duration::from_millis(300));
    let began = std::time::Instant::now();
    let exit = client.process.stop(Duration::from_secs(10));
    assert!(matches!(exit, Some(Exit::Code(_))), "{exit:?}");
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    client.pod.kill();
    world.mesh.manager(node).unwrap();
    world.as_before_within(&before, &[], Duration::from_secs(10));
}

fn endpoint_ended(world: &World) {
    let before = world.census(&[]);
    let endpoint = world.endpoint(1, "f-end", "f-end", &[]);
    let client = world.client(0, "f-end-nsc", "kernel://f-end/nsm-1", &[]);
    stopped(&endpoint.process);
    until("unregistered", Duration::from_secs(2), || {
        !world
            .tables()
            .iter()
            .any(|row| row.starts_with("endpoint f-end "))
    });
    // What cannot be closed at the endpoint that is gone is told, and closed everywhere else.
    let exit = client.process.stop(PATIENCE);
    assert!(matches!(exit, Some(Exit::Code(_))), "{exit:?}");
    client.pod.kill();
    endpoint.pod.kill();
    let without = |census: crate::census::Census| -> Vec<String> {
        census
            .into_iter()
            .filter(|row| row != "service f-end")
            .collect()
    };
    let wanted = without(before);
    until("as before", Duration::from_secs(6), || {
        without(world.census(&[])) == wanted
    });
}

fn init_leaves(world: &World) {
    let endpoint = world.endpoint(0, "f-init-nse", "f-init", &[]);
    let pod = world.mesh.pod(world.mesh.node(0), "f-init").unwrap();
    let before = world.census(&[endpoint.pod.cell()]);
    let run = World::program("init", &[]).env("NSM_NETWORK_SERVICES", "kernel://f-init/nsm-1");
    let init = world.mesh.run_in(pod.clone(), run, CONNECTED).unwrap();
    assert_eq!(init.process.wait(PATIENCE), Some(Exit::Code(0)));
    assert!(
        pings(pod.cell(), &addresses(&init).1[0]),
        "the connection stays"
    );
    // A client of that name takes it over, and closes it.
    let run = World::program("client", &[]).env("NSM_NETWORK_SERVICES", "kernel://f-init/nsm-1");
    let client = world.mesh.run_in(pod.clone(), run, CONNECTED).unwrap();
    assert_eq!(links(pod.cell()), ["nsm-1"], "one interface");
    assert!(pings(pod.cell(), &addresses(&client).1[0]));
    stopped(&client.process);
    until("closed", GONE_WITHIN, || links(pod.cell()).is_empty());
    pod.kill();
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(endpoint);
}
