//! What can go wrong between two nodes.

use std::time::Duration;

use nsm_lab::mesh::MeshConfig;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Group,
    census::links,
    world::{CONNECTED, PATIENCE, Shape, World, addresses, count, end, ip, pings, says, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "tunnels",
    mesh: || Shape {
        nodes: &["node-1", "node-2"],
        config: MeshConfig {
            env: [("NSM_REQUIRE_ENCRYPTION".to_owned(), "true".to_owned())].into(),
            ..MeshConfig::default()
        },
    },
    rows: &[
        (
            "IP payload that would leave the node unencrypted",
            encryption,
        ),
        ("VNIs in use on the client's node", vni_at_client),
        ("VNIs in use on the endpoint's node", vni_at_endpoint),
        ("two forwarders of different ports", ports),
    ],
};

fn encryption(world: &World) {
    let ip_payload = [("NSM_PAYLOAD", "IP")];
    let far = world.endpoint(1, "e-far", "e-far", &ip_payload);
    let near = world.endpoint(0, "e-near", "e-near", &ip_payload);
    let cells = [far.pod.cell(), near.pod.cell()];
    let before = world.census(&cells);
    says(
        &world.refused(0, "e-client", "kernel://e-far/nsm-1", &[]),
        &[
            "payload IP",
            "unencrypted",
            "require-encryption",
            "e-far",
            "node",
        ],
    );
    world.as_before(&before, &cells);
    let client = world.client(0, "e-local", "kernel://e-near/nsm-1", &[]);
    assert!(
        pings(client.pod.cell(), &addresses(&client).1[0]),
        "on one node it passes"
    );
    end(client);
    end(near);
    end(far);
}

/// The VNI of the only tunnel of a pod, when the one that it replaced is gone.
fn vni(pod: &nsm_lab::Cell) -> u32 {
    let show = || ip(pod, "-d link show type vxlan");
    until("one tunnel", Duration::from_secs(2), || {
        show().matches("vxlan id").count() == 1
    });
    let shown = show();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "id")
        .unwrap_or_else(|| panic!("{shown}"));
    words[at + 1].parse().unwrap()
}

fn vni_at_client(world: &World) {
    occupied(world, 0);
}

fn vni_at_endpoint(world: &World) {
    occupied(world, 1);
}

/// Stops a node's forwarder, or lets it go on.
fn pause(world: &World, at: usize, signal: Signal) {
    let (_, pid) = world.mesh.node(at).role("forwarder").unwrap();
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Somebody else's device gets the VNI of a connection while its node's end is away; the connection
/// is made again with another.
fn occupied(world: &World, at: usize) {
    let name = format!("v-nse-{at}");
    let service = format!("v-svc-{at}");
    let endpoint = world.endpoint(1, &name, &service, &[]);
    let before = world.census(&[endpoint.pod.cell()]);
    let client = world.client(
        0,
        &format!("v-client-{at}"),
        &format!("kernel://{service}/nsm-1"),
        &[],
    );
    let peer = addresses(&client).1[0].clone();
    let taken = vni(client.pod.cell());
    assert_eq!(taken, vni(endpoint.pod.cell()), "both ends have one VNI");
    // Its node's end is removed, and somebody else has the VNI before the forwarder looks.
    let node = world.mesh.node(at).node().cell().clone();
    let pod = if at == 0 { &client } else { &endpoint };
    let link = links(pod.pod.cell()).remove(0);
    pause(world, at, Signal::STOP);
    ip(pod.pod.cell(), &format!("link del {link}"));
    let add = format!("link add taken type vxlan id {taken} dstport 4789 nolearning");
    until("the VNI is somebody else's", Duration::from_secs(2), || {
        ip(&node, &add).is_empty()
    });
    pause(world, at, Signal::CONT);
    until("it is healed", PATIENCE, || {
        !links(client.pod.cell()).is_empty()
            && !links(endpoint.pod.cell()).is_empty()
            && pings(client.pod.cell(), &peer)
    });
    assert_ne!(vni(client.pod.cell()), taken, "another VNI");
    assert_eq!(vni(client.pod.cell()), vni(endpoint.pod.cell()));
    // The next ones go around it as well.
    for number in 0..3 {
        let name = format!("v-more-{at}-{number}");
        let other = world.client(0, &name, &format!("kernel://{service}/nsm-1"), &[]);
        assert_ne!(vni(other.pod.cell()), taken);
        assert!(pings(other.pod.cell(), &addresses(&other).1[0]));
        end(other);
    }
    ip(&node, "link del taken");
    end(client);
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(endpoint);
}

fn ports(world: &World) {
    let node = world.mesh.node(1);
    let endpoint = world.endpoint(1, "p-nse", "p-svc", &[]);
    node.kill("forwarder");
    world
        .mesh
        .forwarder_with(node, &[("NSM_VXLAN_PORT", "4790")])
        .unwrap();
    let before = world.census(&[endpoint.pod.cell()]);
    says(
        &world.refused(0, "p-client", "kernel://p-svc/nsm-1", &[]),
        &["4789", "4790", "VXLAN port", "both forwarders to one port"],
    );
    world.as_before(&before, &[endpoint.pod.cell()]);
    node.kill("forwarder");
    world.mesh.forwarder(node).unwrap();
    let client = world.asking(0, "p-after", "kernel://p-svc/nsm-1", &[]);
    until("granted with one port", PATIENCE, || {
        count(&client.log, CONNECTED) == 1
    });
    end(client);
    end(endpoint);
}
