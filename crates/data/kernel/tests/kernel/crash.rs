//! A process that is killed at any step of a plan, and the one after it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nsm_kernel::{Adopted, Executor, NetnsFd, Steps};
use nsm_plan::{NetnsId, Plan, Side, diff, succeed};

use crate::adopt::full;
use crate::support::{Node, isolated, joined, key, side, tunnel};

/// What a child process does, and when it ends.
const TASK: &str = "NSM_KERNEL_TEST_TASK";
/// More steps than any plan here has.
const MOST: usize = 200;
/// Bounds a failing test.
const LIMIT: Duration = Duration::from_secs(3);

/// What is carried out by a process that is killed.
#[derive(serde::Serialize, serde::Deserialize)]
struct Task {
    /// What stands before.
    before: Plan,
    /// What it is changed into.
    after: Plan,
    namespaces: Vec<PathBuf>,
    /// Killed before this change; after all of them when there are fewer.
    step: usize,
}

/// Does something only where the other tests start it.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "how a test tells its child")]
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let task: Task = serde_json::from_str(&task).unwrap();
    let opened = task
        .namespaces
        .iter()
        .map(|path| NetnsFd::open(path).unwrap());
    let pods = opened.map(|netns| (netns.id(), netns)).collect();
    let (armed, count) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let steps = Steps::new({
        let armed = Arc::clone(&armed);
        move || {
            if armed.load(Ordering::SeqCst) && count.fetch_add(1, Ordering::SeqCst) == task.step {
                die();
            }
        }
    });
    let executor = Executor::stepping(&NetnsFd::current().unwrap(), "forwarder", steps).unwrap();
    executor.apply(&task.before, &pods).unwrap();
    armed.store(true, Ordering::SeqCst);
    if task.after.is_empty() {
        executor.undo(&task.before).unwrap();
    } else {
        let changes = diff(&task.before, &task.after);
        executor.change(&changes, &pods).unwrap();
    }
    println!("all steps done");
    die();
}

fn die() {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    // It comes at once, but to this thread perhaps not first.
    std::thread::sleep(LIMIT);
}

/// Carries out a task in a process that is killed at a step. True when all of it was done.
fn killed(node: &Node, before: &Plan, after: &Plan, step: usize) -> bool {
    let own = std::process::id();
    let paths = node.pods.values().map(|netns| {
        let fd = netns.as_fd().as_raw_fd();
        PathBuf::from(format!("/proc/{own}/fd/{fd}"))
    });
    let (before, after) = (before.clone(), after.clone());
    let task = Task {
        before,
        after,
        namespaces: paths.collect(),
        step,
    };
    #[expect(clippy::disallowed_methods, reason = "the process that is killed")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(TASK, serde_json::to_string(&task).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.signal(),
        Some(9),
        "step {step}: {said}{error}"
    );
    said.contains("all steps done")
}

/// A connection between two pods, and one over a tunnel.
fn plans(node: &mut Node) -> Vec<Plan> {
    let (local, ..) = full(node);
    let pod = node.pod();
    let (near, far) = (
        ["10.1.0.1/32", "fd01::1/128"],
        ["10.1.0.0/32", "fd01::/128"],
    );
    let workload = Side::Kernel(side(pod, "nsm-t", 1, &near, &far));
    let remote = joined(
        key(8),
        workload,
        Side::Vxlan(tunnel("127.0.0.1", "127.0.0.2", 77)),
    );
    vec![local, remote]
}

fn everything(node: &Node, plan: &Plan) -> String {
    of_pods(node, &plan.namespaces())
}

fn of_pods(node: &Node, pods: &BTreeSet<NetnsId>) -> String {
    pods.iter().map(|pod| node.everything(*pod)).collect()
}

/// A process that knows nothing.
fn restart(node: &mut Node) {
    node.executor = Executor::new("forwarder").unwrap();
}

fn clear(node: &mut Node, plan: &Plan, empty: &str) {
    node.executor.undo(plan).unwrap();
    assert!(node.executor.reaper().wait_idle(LIMIT));
    assert_eq!(everything(node, plan), empty);
}

/// What a plan looks like where nothing went wrong, and what its namespaces look like without it.
fn ideal(node: &mut Node, plan: &Plan) -> (String, String) {
    let empty = everything(node, plan);
    node.executor.apply(plan, &node.pods).unwrap();
    let wanted = everything(node, plan);
    clear(node, plan, &empty);
    (wanted, empty)
}

/// Kills at every step. Returns how many there are.
fn every_step(
    node: &mut Node,
    before: &Plan,
    after: &Plan,
    check: impl Fn(&mut Node, usize),
) -> usize {
    for step in 0..MOST {
        let done = killed(node, before, after, step);
        restart(node);
        check(node, step);
        if done {
            return step;
        }
    }
    panic!("more than {MOST} steps");
}

#[test]
fn killed_at_any_step_of_making_or_taking_away() {
    isolated("crash::killed_at_any_step_of_making_or_taking_away", || {
        let mut node = Node::new();
        for plan in plans(&mut node) {
            let nothing = Plan::default();
            let (wanted, empty) = ideal(&mut node, &plan);
            let journal = node.executor.apply(&plan, &node.pods).unwrap().namespaces;
            clear(&mut node, &plan, &empty);
            for (before, after) in [(&nothing, &plan), (&plan, &nothing)] {
                let steps = every_step(&mut node, before, after, |node, step| {
                    node.executor.apply(&plan, &node.pods).unwrap();
                    assert!(node.executor.reaper().wait_idle(LIMIT));
                    let _swept = node
                        .executor
                        .sweep_settled(&BTreeSet::new(), Duration::ZERO)
                        .unwrap();
                    assert_eq!(
                        everything(node, &plan),
                        wanted,
                        "applied again after step {step}"
                    );
                    clear(node, &plan, &empty);
                });
                assert!(steps > 2, "{steps}");
                every_step(&mut node, before, after, |node, step| {
                    let _swept = node
                        .executor
                        .sweep_settled(&BTreeSet::new(), Duration::ZERO)
                        .unwrap();
                    assert_eq!(everything(node, &plan), empty, "swept after step {step}");
                });
            }
            every_step(&mut node, &plan, &nothing, |node, step| {
                let adopted = node.executor.adopt(&plan, &journal).unwrap();
                assert!(
                    !matches!(adopted, Adopted::Gone(_)),
                    "step {step}: {adopted:?}"
                );
                assert!(node.executor.reaper().wait_idle(LIMIT));
                let _swept = node
                    .executor
                    .sweep_settled(&BTreeSet::new(), Duration::ZERO)
                    .unwrap();
                assert_eq!(everything(node, &plan), wanted, "adopted after step {step}");
                clear(node, &plan, &empty);
            });
        }
    });
}

/// The plans of one client's connection to two endpoints here and two elsewhere.
fn moves(node: &mut Node) -> Vec<Plan> {
    let (near, far) = (
        ["10.1.0.1/32", "fd01::1/128"],
        ["10.1.0.0/32", "fd01::/128"],
    );
    let pod = node.pod();
    let client = || Side::Kernel(side(pod, "nsm-c", 1, &near, &far));
    let ends =
        [node.pod(), node.pod()].map(|there| Side::Kernel(side(there, "nsm-e", 2, &far, &near)));
    let tunnels = [77, 78].map(|vni| Side::Vxlan(tunnel("127.0.0.1", "127.0.0.2", vni)));
    let others = ends.into_iter().chain(tunnels);
    others
        .map(|other| joined(key(9), client(), other))
        .collect()
}

#[test]
fn killed_at_any_step_of_a_replacement() {
    isolated("crash::killed_at_any_step_of_a_replacement", || {
        let mut node = Node::new();
        let plans = moves(&mut node);
        for (from, to) in [(0, 1), (0, 2), (2, 3), (3, 0)] {
            let old = plans[from].clone();
            let new = succeed(&old, plans[to].clone());
            let pods = &old.namespaces() | &new.namespaces();
            let nothing = of_pods(&node, &pods);
            let made = |node: &mut Node, plan: &Plan| {
                let journal = node.executor.apply(plan, &node.pods).unwrap().namespaces;
                (of_pods(node, &pods), journal)
            };
            let (stood, journal) = made(&mut node, &old);
            node.executor.undo(&old).unwrap();
            assert!(node.executor.reaper().wait_idle(LIMIT));
            let (wanted, _) = made(&mut node, &new);
            node.executor.undo(&new).unwrap();
            assert!(node.executor.reaper().wait_idle(LIMIT));
            let end = |node: &mut Node, plan: &Plan, wanted: &str, what: &str| {
                assert!(node.executor.reaper().wait_idle(LIMIT));
                let _swept = node
                    .executor
                    .sweep_settled(&BTreeSet::new(), Duration::ZERO)
                    .unwrap();
                assert_eq!(of_pods(node, &pods), wanted, "{from} to {to}: {what}");
                node.executor.undo(plan).unwrap();
                assert!(node.executor.reaper().wait_idle(LIMIT));
                assert_eq!(of_pods(node, &pods), nothing, "{from} to {to}: {what}");
            };
            let steps = every_step(&mut node, &old, &new, |node, step| {
                node.executor.apply(&new, &node.pods).unwrap();
                end(
                    node,
                    &new,
                    &wanted,
                    &format!("applied again after step {step}"),
                );
            });
            assert!(steps > 5, "{steps}");
            every_step(&mut node, &old, &new, |node, step| {
                let adopted = node.executor.adopt(&old, &journal).unwrap();
                assert!(
                    !matches!(adopted, Adopted::Gone(_)),
                    "step {step}: {adopted:?}"
                );
                end(node, &old, &stood, &format!("adopted after step {step}"));
            });
            if to != 2 {
                continue;
            }
            every_step(&mut node, &old, &new, |node, step| {
                let _adopted = node.executor.adopt(&old, &journal).unwrap();
                node.executor.change(&diff(&old, &new), &node.pods).unwrap();
                end(
                    node,
                    &new,
                    &wanted,
                    &format!("moved again after step {step}"),
                );
            });
            every_step(&mut node, &old, &new, |node, step| {
                let _swept = node
                    .executor
                    .sweep_settled(&BTreeSet::new(), Duration::ZERO)
                    .unwrap();
                assert_eq!(of_pods(node, &pods), nothing, "swept after step {step}");
            });
        }
    });
}
