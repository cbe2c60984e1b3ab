//! Everything ends: pods that are killed, labs that are taken down, interrupted or killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nsm_lab::standing::{self, State};
use nsm_lab::{Interrupt, Run};

use crate::{Row, lab};

/// Runs this program as the holder of a lab of its own.
pub(crate) const HOLD: &str = "--hold";
const SECOND: Duration = Duration::from_secs(1);

pub(crate) const TESTS: &[Row] = &[
    (
        "a_killed_pod_frees_its_namespace",
        a_killed_pod_frees_its_namespace,
    ),
    ("nothing_is_left_after_down", nothing_is_left_after_down),
    (
        "dropping_the_lab_takes_it_down",
        dropping_the_lab_takes_it_down,
    ),
    (
        "a_killed_lab_leaves_no_process",
        a_killed_lab_leaves_no_process,
    ),
    (
        "an_interrupted_lab_leaves_nothing",
        an_interrupted_lab_leaves_nothing,
    ),
    (
        "a_standing_lab_is_found_used_and_ended",
        a_standing_lab_is_found_used_and_ended,
    ),
];

pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Processes that see this network namespace, on the whole machine.
fn users_of(inode: u64) -> usize {
    let link = format!("net:[{inode}]");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let same = |path: std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy() == link)
    };
    entries
        .filter(|entry| same(entry.path().join("ns/net")))
        .count()
}

fn eventually(what: &str, limit: Duration, check: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !check() {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within {limit:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_killed_pod_frees_its_namespace() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let pod = lab.pod(&node, "pod", |s| s).unwrap();
    // A pair into the pod: its end here is gone when the kernel has freed the pod's namespace.
    let port = format!("probe{}", pod.cell().pid());
    let pid = pod.cell().pid().to_string();
    let made = Command::new("ip")
        .args([
            "link",
            "add",
            &port[..port.len().min(15)],
            "type",
            "veth",
            "peer",
            "name",
            "x",
            "netns",
            &pid,
        ])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("the ip tool is missing".to_owned());
    }
    let sleepers: Vec<_> = (0..3)
        .map(|_| pod.cell().spawn(Run::program("sleep", ["1000"])).unwrap())
        .collect();
    let inode = pod.cell().namespaces().network;
    assert_eq!(users_of(inode), 4);
    let links = || {
        fs::read_to_string("/proc/thread-self/net/dev")
            .unwrap()
            .contains(&port[..port.len().min(15)])
    };
    assert!(links());
    pod.kill();
    assert_eq!(users_of(inode), 0);
    eventually("the end of the pod's namespace", SECOND, || !links());
    assert!(sleepers.iter().all(|sleeper| sleeper.status().is_some()));
    Ok(())
}

fn nothing_is_left_after_down() -> Result<(), String> {
    let lab = lab();
    for name in ["one", "two"] {
        let node = lab.node(name).unwrap();
        let pod = lab.pod(&node, &format!("pod-{name}"), |s| s).unwrap();
        pod.cell().spawn(Run::program("sleep", ["1000"])).unwrap();
        lab.role(&node, &format!("role-{name}"), |s| s).unwrap();
    }
    lab.overseer("agent", |s| s)
        .unwrap()
        .spawn(Run::program("sleep", ["1000"]))
        .unwrap();
    let there = lab.leftovers();
    for kind in ["process", "link", "file"] {
        assert!(
            there.iter().any(|line| line.starts_with(kind)),
            "{kind} in {there:?}"
        );
    }
    assert_eq!(lab.down(), Vec::<String>::new());
    Ok(())
}

fn dropping_the_lab_takes_it_down() -> Result<(), String> {
    let lab = lab();
    let node = lab.node("one").unwrap();
    let (root, pid) = (lab.root().to_owned(), node.cell().pid());
    assert!(root.exists() && runs(pid));
    drop(lab);
    assert!(!root.exists() && !runs(pid));
    assert!(!node.cell().alive());
    Ok(())
}

/// The holder's process: makes a lab, says what is in it, waits for its end.
pub(crate) fn hold() -> ExitCode {
    nsm_lab::enter().unwrap();
    let interrupt = Interrupt::install().unwrap();
    let lab = lab();
    lab.down_on(&interrupt);
    let node = lab.node("one").unwrap();
    let pod = lab.pod(&node, "pod", |s| s).unwrap();
    pod.cell().spawn(Run::program("sleep", ["1000"])).unwrap();
    let agent = lab.overseer("agent", |s| s).unwrap();
    agent.spawn(Run::program("sleep", ["1000"])).unwrap();
    if let Some(name) = std::env::args().nth(2) {
        State::of(&lab, [node.cell(), pod.cell()])
            .unwrap()
            .save(&name)
            .unwrap();
    }
    println!("{} {}", lab.id(), lab.root().display());
    while !interrupt.raised() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = lab.down();
    assert_eq!(left, Vec::<String>::new());
    ExitCode::SUCCESS
}

/// The holder's process; a test that fails does not leave it behind.
struct Holder {
    child: Child,
    id: String,
    root: String,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn holder() -> Holder {
    let mut command = Command::new("/proc/self/exe");
    let mut child = command.arg(HOLD).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (id, root) = line
        .trim()
        .split_once(' ')
        .expect("the holder says what it holds");
    Holder {
        child,
        id: id.to_owned(),
        root: root.to_owned(),
    }
}

/// Processes on the machine that carry the lab's name.
fn processes_of(id: &str) -> usize {
    let wanted = format!("NSM_LAB={id}");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let carries = |path: std::path::PathBuf| {
        fs::read(path)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
    };
    entries
        .filter(|entry| carries(entry.path().join("environ")))
        .count()
}

fn a_killed_lab_leaves_no_process() -> Result<(), String> {
    let mut holder = holder();
    // A process that is just being executed shows no environment.
    eventually("the start of every process", SECOND, || {
        processes_of(&holder.id) >= 5
    });
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    eventually("the end of every process", SECOND, || {
        processes_of(&holder.id) == 0
    });
    Ok(())
}

fn an_interrupted_lab_leaves_nothing() -> Result<(), String> {
    for signal in ["INT", "TERM"] {
        let mut holder = holder();
        let kill = format!("kill -{signal} {}", holder.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        assert!(holder.child.wait().unwrap().success(), "SIG{signal}");
        assert_eq!(processes_of(&holder.id), 0);
        assert!(!std::path::Path::new(&holder.root).exists());
    }
    Ok(())
}

fn a_standing_lab_is_found_used_and_ended() -> Result<(), String> {
    let name = format!("test-{}", std::process::id());
    assert!(State::load(&name).unwrap_err().to_string().contains(&name));
    let log = std::env::temp_dir().join(format!("{name}.log"));
    let state = standing::detach(
        &name,
        &[HOLD.to_owned(), name.clone()],
        &log,
        Duration::from_secs(10),
    )
    .unwrap();
    assert_eq!(State::load(&name).unwrap(), state);
    assert_eq!(state.cells.keys().collect::<Vec<_>>(), ["one", "pod"]);
    assert!(
        state
            .exec("nobody", &["true".to_owned()])
            .unwrap_err()
            .to_string()
            .contains("nobody")
    );
    let sleeping =
        "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $c; done | grep -q 'sleep 1000'";
    for (script, expected) in [
        ("exit 7", 7),
        (sleeping, 0),
        ("test $(cat /proc/sys/kernel/hostname) = pod", 0),
    ] {
        let (state, command) = (state.clone(), ["sh", "-c", script].map(str::to_owned));
        let status = exec_in_child(&state, &command);
        assert_eq!(status, Some(expected), "{script}");
    }
    let root = state.root.clone();
    state.down(&name).unwrap();
    assert!(State::load(&name).is_err() && !root.exists());
    fs::remove_file(log).unwrap();
    Ok(())
}

/// A process with several threads cannot enter another's mount namespace by itself; a fresh one of
/// ours can.
fn exec_in_child(state: &State, command: &[String]) -> Option<i32> {
    let text = serde_json::to_string(state).unwrap();
    let status = Command::new("/proc/self/exe")
        .arg("--exec")
        .arg(text)
        .args(command)
        .status()
        .unwrap();
    status.code()
}

/// The child of [`exec_in_child`].
pub(crate) fn exec(args: &[String]) -> ExitCode {
    let state: State = serde_json::from_str(&args[0]).unwrap();
    let status = state.exec("pod", &args[1..]).unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap()).unwrap())
}
