//! Isolation, pods, sides and packets for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nsm_kernel::stats::{LinkReader, LinkState};
use nsm_kernel::{Executor, NetnsFd, setup};
use nsm_model::mechanism::{Mtu, Vni};
use nsm_plan::{KernelSide, KeyDigest, NetnsId, Plan, Side, VxlanSide, cross_connect};
use rustix::thread::UnshareFlags;

/// Set in the process that runs a test's body inside its own namespaces.
const INSIDE: &str = "NSM_KERNEL_TEST_INSIDE";
/// A packet between two namespaces of one machine takes microseconds; this only bounds a failing
/// test.
const PACKET_LIMIT: Duration = Duration::from_secs(2);

/// Runs a test's body in a process of its own with fresh user, network and mount namespaces.
pub(crate) fn isolated(test: &str, body: impl FnOnce()) {
    #[expect(clippy::disallowed_methods, reason = "a test re-executes itself")]
    if std::env::var(INSIDE).is_ok() {
        return body();
    }
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    #[expect(clippy::disallowed_methods, reason = "a test re-executes itself")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1");
    let enter = move || {
        // SAFETY: the process is the single-threaded child of a fork; no descriptor table is
        // unshared.
        unsafe {
            rustix::thread::unshare_unsafe(
                UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS,
            )?
        };
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        std::fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))
    };
    // SAFETY: between fork and exec only system calls and small writes are made; the allocator is
    // not held by the forking thread.
    unsafe { command.pre_exec(enter) };
    match command.output() {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied) => {
            skip(test, "user namespaces")
        }
        Err(error) if error.raw_os_error() == Some(28) => skip(test, "user namespaces"),
        Err(error) => panic!("{test}: {error}"),
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            for line in out.lines().filter(|line| line.starts_with("skipped: ")) {
                say(line);
            }
            assert!(
                output.status.success(),
                "{test} failed inside its namespaces:\n{out}\n{err}"
            );
            assert!(
                out.contains("1 passed"),
                "{test} did not run inside its namespaces:\n{out}\n{err}"
            );
        }
    }
}

/// Says in the one fixed format that a test could not run; written past the test runner's capture.
pub(crate) fn skip(test: &str, missing: &str) {
    say(&format!("skipped: {test}: {missing}"));
}

/// A line of its own: the runner may have begun one.
fn say(line: &str) {
    let mut out = io::stdout();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// A node (the process's own namespace) and pods.
pub(crate) struct Node {
    pub(crate) executor: Executor,
    pub(crate) pods: BTreeMap<NetnsId, NetnsFd>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            executor: Executor::new("forwarder").unwrap(),
            pods: BTreeMap::new(),
        }
    }

    pub(crate) fn pod(&mut self) -> NetnsId {
        let netns = setup::new_netns(self.executor.workers()).unwrap();
        let id = netns.id();
        self.pods.insert(id, netns);
        id
    }

    /// The plan of a veth pair between two new pods, `nsm-c` in the client's and `nsm-e` in the
    /// endpoint's.
    pub(crate) fn pair(
        &mut self,
        key: KeyDigest,
        near: &[&str],
        far: &[&str],
    ) -> (Plan, NetnsId, NetnsId) {
        let (client, endpoint) = (self.pod(), self.pod());
        let near_side = Side::Kernel(side(client, "nsm-c", 1, near, far));
        let far_side = Side::Kernel(side(endpoint, "nsm-e", 2, far, near));
        (joined(key, near_side, far_side), client, endpoint)
    }

    /// A UDP socket inside a pod.
    pub(crate) fn udp(&self, pod: NetnsId, address: &str) -> UdpSocket {
        let address: IpAddr = address.parse().unwrap();
        let bind = move || UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
        let socket = self
            .executor
            .workers()
            .inside(&self.pods[&pod], bind)
            .unwrap();
        socket.set_read_timeout(Some(PACKET_LIMIT)).unwrap();
        socket
    }

    /// Names of all links in a pod but the loopback's.
    pub(crate) fn links(&self, pod: NetnsId) -> Vec<LinkState> {
        let list = || LinkReader::open().unwrap().links(None).unwrap();
        let links = self
            .executor
            .workers()
            .inside(&self.pods[&pod], list)
            .unwrap();
        links.into_iter().filter(|link| link.name != "lo").collect()
    }

    /// Runs the `ip` tool in a pod, as somebody does by hand. Returns what it printed.
    pub(crate) fn ip(&self, pod: NetnsId, args: &str) -> String {
        let words: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let workers = self.executor.workers();
        let run = move || {
            #[expect(clippy::disallowed_methods, reason = "what an operator does by hand")]
            let mut command = Command::new("ip");
            command.args(words).output().unwrap()
        };
        let output = workers.inside(&self.pods[&pod], run).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "ip {args}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// All that a pod has, as the `ip` tool tells it, without links' indices.
    pub(crate) fn everything(&self, pod: NetnsId) -> String {
        let links = self.links(pod).into_iter().map(|link| {
            let LinkState {
                name,
                alias,
                group,
                mtu,
                mac,
                up,
                vni,
                ..
            } = link;
            format!("{name} {alias} {group:x} {mtu} {mac:x?} {up} {vni:?}\n")
        });
        let mut all: Vec<String> = links.collect();
        for list in [
            "-4 -o addr",
            "-6 -o addr show scope global",
            "-4 route",
            "-6 route",
            "neigh show nud permanent",
        ] {
            let told = self.ip(pod, list);
            let rows = told.lines().map(|row| match row.split_once(": ") {
                Some((_index, rest)) => format!("{rest}\n"),
                None => format!("{row}\n"),
            });
            all.extend(rows.filter(|row| !row.starts_with("fe80::")));
        }
        all.sort();
        all.concat()
    }

    pub(crate) fn names(&self, pod: NetnsId) -> BTreeSet<String> {
        self.links(pod).into_iter().map(|link| link.name).collect()
    }
}

/// One datagram each way.
pub(crate) fn exchange(one: &UdpSocket, other: &UdpSocket) {
    for (from, to, text) in [(one, other, "there"), (other, one, "back")] {
        from.send_to(text.as_bytes(), to.local_addr().unwrap())
            .unwrap();
        let mut bytes = [0; 16];
        let (length, sender) = to.recv_from(&mut bytes).unwrap();
        assert_eq!(
            (&bytes[..length], sender),
            (text.as_bytes(), from.local_addr().unwrap())
        );
    }
}

pub(crate) fn key(n: u8) -> KeyDigest {
    KeyDigest([n; 16])
}

/// A kernel side with addresses of its own and host routes to the peer's.
pub(crate) fn side(
    netns: NetnsId,
    name: &str,
    mac: u8,
    addrs: &[&str],
    peers: &[&str],
) -> KernelSide {
    KernelSide {
        netns,
        name: name.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, mac],
        addrs: addrs.iter().map(|text| text.parse().unwrap()).collect(),
        routes: peers
            .iter()
            .map(|text| (text.parse().unwrap(), None))
            .collect(),
        neighbours: Vec::new(),
        mtu: Mtu::new(1450).unwrap(),
        bare: false,
    }
}

pub(crate) fn tunnel(local: &str, remote: &str, vni: u32) -> VxlanSide {
    let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
    VxlanSide {
        local,
        remote,
        port: 4789,
        vni: Vni::new(vni).unwrap(),
    }
}

pub(crate) fn joined(key: KeyDigest, client: Side, endpoint: Side) -> Plan {
    cross_connect(key, &client, &endpoint).unwrap()
}

/// How many descriptors (`fd`) or threads (`task`) this process has.
pub(crate) fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}
