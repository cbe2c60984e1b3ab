//! What each role's process may still do when it runs, as the kernel says of each of its threads.
//! docs/security.md promises it.

use std::fs;

use crate::{
    Group,
    world::{PATIENCE, Shape, World, count, end, until},
};

/// linux/capability.h.
const NET_BROADCAST: u64 = 1 << 11;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;

/// A filter is in force (proc_pid_status(5)).
const FILTERED: &str = "2";

pub(crate) const GROUP: Group = Group {
    name: "confined",
    mesh,
    rows: &[
        ("each role has what it needs and nothing else", each_role),
        ("without the filter, and loudly", unfiltered),
    ],
};

fn mesh() -> Shape {
    Shape {
        nodes: &["node-1"],
        ..Shape::default()
    }
}

/// What may be in the permitted, effective and bounding sets.
const ROLES: &[(&str, u64)] = &[
    ("registry", 0),
    ("manager", 0),
    ("forwarder", NET_ADMIN | SYS_ADMIN | NET_BROADCAST | NET_RAW),
];
const WORKLOADS: &[(&str, u64)] = &[("end", 0), ("middle", NET_ADMIN), ("client", NET_RAW)];
const AGENT: (&str, u64) = ("agent", SYS_PTRACE);

fn each_role(world: &World) {
    let node = world.mesh.node(0);
    let chain = [
        ("NSM_PASSTHROUGH", "true"),
        ("NSM_LABELS", "app:middle"),
        ("NSM_REGISTER_SERVICE", "false"),
    ];
    let workloads = [
        world.endpoint(0, "end", "confined", &[("NSM_CIDR_PREFIX", "10.77.0.0/24")]),
        world.endpoint(0, "middle", "another", &chain),
        world.client(0, "client", "kernel://confined/nsm-1", &[]),
    ];
    let mut wrong = Vec::new();
    for (role, rights) in ROLES {
        let (_, pid) = node.role(role).unwrap();
        wrong.extend(differences(role, pid, *rights));
    }
    for ((name, rights), workload) in WORKLOADS.iter().zip(&workloads) {
        wrong.extend(differences(
            name,
            workload.process.host_pid().unwrap(),
            *rights,
        ));
    }
    wrong.extend(differences(
        AGENT.0,
        node.agent().host_pid().unwrap(),
        AGENT.1,
    ));
    assert!(wrong.is_empty(), "{wrong:#?}");
    workloads.into_iter().rev().for_each(end);
}

fn unfiltered(world: &World) {
    let client = world.asking(
        0,
        "bare",
        "kernel://nobody/nsm-1",
        &[("NSM_SECCOMP", "off")],
    );
    let pid = client.process.host_pid().unwrap();
    assert_eq!(field(pid, pid, "Seccomp"), "0");
    assert_eq!(field(pid, pid, "NoNewPrivs"), "1");
    let loud =
        "--seccomp off: every system call is allowed; for debugging alone, never in production";
    until("it says so", PATIENCE, || count(&client.log, loud) == 1);
    // Before that there may be something to close that nobody has made.
    world.complaint(&client);
    end(client);
}

/// What is not as it should be, of every thread.
fn differences(name: &str, pid: u32, rights: u64) -> Vec<String> {
    let (rights, nothing) = (format!("{rights:016x}"), format!("{:016x}", 0));
    let expected = [
        ("CapPrm", rights.as_str()),
        ("CapEff", &rights),
        ("CapBnd", &rights),
        ("CapInh", &nothing),
        ("CapAmb", &nothing),
        ("NoNewPrivs", "1"),
        ("Seccomp", FILTERED),
    ];
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads: Vec<u32> = threads
        .map(|thread| {
            thread
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(threads.len() > 1, "{name} has its runtime");
    let mut wrong = Vec::new();
    for thread in threads {
        for (key, value) in expected {
            let is = field(pid, thread, key);
            if is != value && !is.is_empty() {
                wrong.push(format!(
                    "{name}, thread {thread}: {key} is {is}, not {value}"
                ));
            }
        }
    }
    wrong
}

/// A field of a thread's status; empty when the thread has ended meanwhile.
fn field(pid: u32, thread: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}
