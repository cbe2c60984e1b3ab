//! What a cell is, and what it is kept from.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nsm_lab::measure::ping;
use nsm_lab::{Cell, Exit, LabError, Output, Run};

use crate::{Row, lab};

const WAIT: Duration = Duration::from_secs(5);

pub(crate) const TESTS: &[Row] = &[
    ("two_nodes_ping_each_other", two_nodes_ping_each_other),
    (
        "underlay_carries_its_mtu_and_no_more",
        underlay_carries_its_mtu_and_no_more,
    ),
    (
        "pods_see_neither_files_nor_processes_of_others",
        pods_see_neither_files_nor_processes_of_others,
    ),
    (
        "sockets_are_shared_by_a_node_and_read_only_in_pods",
        sockets_are_shared_by_a_node_and_read_only_in_pods,
    ),
    (
        "roles_share_the_network_of_their_node",
        roles_share_the_network_of_their_node,
    ),
    (
        "an_overseer_sees_every_process",
        an_overseer_sees_every_process,
    ),
    (
        "exits_and_signals_are_reported",
        exits_and_signals_are_reported,
    ),
    (
        "what_cannot_be_started_says_why",
        what_cannot_be_started_says_why,
    ),
];

/// Runs a shell in a cell; returns its exit code and output.
fn shell(cell: &Cell, script: &str) -> (Exit, String) {
    let (mut read, write) = std::io::pipe().unwrap();
    let run = Run::program("/bin/sh", ["-c", script]).stdout(Output::Fd(write.into()));
    let process = cell.spawn(run).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    (
        process.wait(WAIT).expect("the shell ends"),
        text.trim().to_owned(),
    )
}

fn two_nodes_ping_each_other() -> Result<(), String> {
    let lab = lab();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    for (from, to) in [(&one, &two), (&two, &one)] {
        for address in [IpAddr::from(to.addresses().v4), to.addresses().v6.into()] {
            let report = ping(from.cell(), address, 20, Duration::from_millis(1)).unwrap();
            assert_eq!(
                (report.sent, report.received),
                (20, 20),
                "{} to {address}",
                from.name()
            );
            assert!(report.p50_us.unwrap() <= report.p99_us.unwrap());
        }
    }
    let nobody = ping(
        one.cell(),
        IpAddr::from([10, 255, 0, 77]),
        1,
        Duration::ZERO,
    )
    .unwrap();
    assert_eq!((nobody.received, nobody.p50_us), (0, None));
    Ok(())
}

fn underlay_carries_its_mtu_and_no_more() -> Result<(), String> {
    let lab = nsm_lab::Lab::new(&nsm_lab::Config {
        mtu: 1400,
        ..Default::default()
    })
    .unwrap();
    let node = lab.node("one").unwrap();
    let role = lab.role(&node, "role", |spec| spec).unwrap();
    let (_, text) = shell(&role, "ip -o link show eth0");
    assert!(text.contains("mtu 1400"), "{text}");
    Ok(())
}

fn pods_see_neither_files_nor_processes_of_others() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let pods: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| lab.pod(&node, name, |spec| spec).unwrap())
        .collect();
    let (a, b) = (pods[0].cell(), pods[1].cell());
    for folder in ["/tmp", "/run", "/dev/shm"] {
        assert_eq!(
            shell(a, &format!("echo secret > {folder}/secret")).0,
            Exit::Code(0)
        );
        assert_eq!(
            shell(b, &format!("cat {folder}/secret")).0,
            Exit::Code(1),
            "{folder}"
        );
        assert!(!Path::new(folder).join("secret").exists());
    }
    let sleeper = a.spawn(Run::program("sleep", ["1000"])).unwrap();
    assert!(sleeper.host_pid().is_some());
    let (_, seen) = shell(b, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(
        seen.contains("__lab-init") && !seen.contains("sleep"),
        "{seen}"
    );
    let (one, two) = (a.namespaces(), b.namespaces());
    assert!(
        one.network != two.network && one.processes != two.processes && one.mounts != two.mounts
    );
    assert_eq!(shell(b, "hostname || cat /proc/sys/kernel/hostname").1, "b");
    let (_, links) = shell(b, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '");
    assert_eq!(links, "lo");
    Ok(())
}

fn sockets_are_shared_by_a_node_and_read_only_in_pods() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let (role, pod) = (
        lab.role(&node, "manager", |s| s).unwrap(),
        lab.pod(&node, "pod", |s| s).unwrap(),
    );
    // script, in the role, in the pod
    let rows = [
        ("echo m > /run/nsm/nsm.io.sock", 0, 2),
        ("test -e /run/nsm/nsm.io.sock", 0, 0),
        ("echo p > /run/nsm/pod/own.sock", 0, 0),
        ("echo x > /run/spiffe/agent.sock", 2, 2),
    ];
    for (script, in_role, in_pod) in rows {
        for (cell, expected) in [(&role, in_role), (pod.cell(), in_pod)] {
            assert_eq!(
                shell(cell, script).0,
                Exit::Code(expected),
                "{script} in {}",
                cell.name()
            );
        }
    }
    // A socket on a read-only mount is connected to all the same.
    let listener =
        std::os::unix::net::UnixListener::bind(node.identity_folder().join("agent.sock")).unwrap();
    assert_eq!(shell(pod.cell(), "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('/run/spiffe/agent.sock')\" || test ! -e /usr/bin/python3").0, Exit::Code(0));
    drop(listener);
    Ok(())
}

fn roles_share_the_network_of_their_node() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let roles: Vec<_> = ["manager", "forwarder"]
        .iter()
        .map(|name| lab.role(&node, name, |s| s).unwrap())
        .collect();
    for role in &roles {
        assert_eq!(role.namespaces().network, node.cell().namespaces().network);
        assert_ne!(
            role.namespaces().processes,
            node.cell().namespaces().processes
        );
        let (_, inode) = shell(role, "readlink /proc/self/ns/net");
        assert_eq!(inode, format!("net:[{}]", role.namespaces().network));
    }
    assert_eq!(shell(&roles[0], "touch /tmp/x").0, Exit::Code(0));
    assert_eq!(shell(&roles[1], "test -e /tmp/x").0, Exit::Code(1));
    Ok(())
}

fn an_overseer_sees_every_process() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let folder = node.identity_folder();
    let agent = lab
        .overseer("agent", |spec| spec.bind(folder, "/run/spiffe", false))
        .unwrap();
    let pod = lab.pod(&node, "pod", |s| s).unwrap();
    let sleeper = pod.cell().spawn(Run::program("sleep", ["1000"])).unwrap();
    let pid = sleeper.host_pid().unwrap();
    let (_, inode) = shell(&agent, &format!("readlink /proc/{pid}/ns/pid"));
    assert_eq!(
        inode,
        format!("pid:[{}]", pod.cell().namespaces().processes)
    );
    assert_eq!(
        shell(&agent, "touch /run/spiffe/agent.sock").0,
        Exit::Code(0)
    );
    let watcher = agent.spawn(Run::program("sleep", ["1000"])).unwrap();
    let pid = watcher.host_pid().unwrap();
    agent.kill();
    let deadline = Instant::now() + WAIT;
    while crate::ending::runs(pid) {
        assert!(
            Instant::now() < deadline,
            "a process of a killed overseer still runs"
        );
    }
    Ok(())
}

fn exits_and_signals_are_reported() -> Result<(), String> {
    let lab = lab();
    let pod = lab.pod(&lab.node("one").unwrap(), "pod", |s| s).unwrap();
    let start = |script: &str| {
        pod.cell()
            .spawn(Run::program("/bin/sh", ["-c", script]).env("ANSWER", "7"))
            .unwrap()
    };
    for (script, expected) in [
        ("exit 0", Exit::Code(0)),
        ("exit $ANSWER", Exit::Code(7)),
        ("kill -9 $$", Exit::Signal(9)),
    ] {
        assert_eq!(start(script).wait(WAIT), Some(expected), "{script}");
    }
    let sleeper = start("exec sleep 1000");
    assert_eq!(sleeper.status(), None);
    sleeper.signal(15).unwrap();
    assert_eq!(sleeper.wait(WAIT), Some(Exit::Signal(15)));
    assert!(matches!(sleeper.signal(15), Err(LabError::Refused { .. })));
    // Orphans are adopted and reaped by the first process.
    assert_eq!(
        start("(sleep 0.1 &) ; exit 3").wait(WAIT),
        Some(Exit::Code(3))
    );
    let stubborn = start("trap '' TERM; while :; do sleep 0.05; done");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        stubborn.stop(Duration::from_millis(200)),
        Some(Exit::Signal(9))
    );
    Ok(())
}

fn what_cannot_be_started_says_why() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let pod = lab.pod(&node, "pod", |s| s).unwrap();
    let rows: Vec<(Result<(), LabError>, &str)> = vec![
        (
            pod.cell()
                .spawn(Run::program("/no/such/program", ["x"]))
                .map(drop),
            "/no/such/program",
        ),
        (lab.node("one").map(drop), "there is one already"),
        (lab.node("../up").map(drop), "../up"),
        (lab.pod(&node, "", |s| s).map(drop), "name"),
        (
            lab.pod(&node, "other", |s| {
                s.bind("/no/such/folder", "/run/x", true)
            })
            .map(drop),
            "/no/such/folder",
        ),
    ];
    for (result, part) in rows {
        let message = result.expect_err(part).to_string();
        assert!(message.contains(part), "{message}");
    }
    pod.kill();
    assert!(matches!(
        pod.cell().spawn(Run::nsm(["x"])),
        Err(LabError::Dead { .. })
    ));
    assert!(matches!(
        pod.cell().open_network(),
        Err(LabError::Dead { .. })
    ));
    Ok(())
}
