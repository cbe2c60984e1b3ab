//! Callers in other namespaces: the agent sees through their pid namespace and tells their network
//! apart.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

mod common;

use std::{fs, time::Duration};

use nsm_identity::Workload;

use common::{Agent, HOUR, id, own_uid};

const ADDRESS: &str = "NSM_TEST_AGENT";

/// Run by the test below as another process; nothing to do otherwise.
#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "a child process is told by its environment what to do"
)]
async fn child() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    match Workload::connect(&address, Duration::from_millis(200)).await {
        Ok(workload) => println!("child got {}", workload.source().current().id()),
        Err(error) => println!("child failed: {error}"),
    }
}

/// What `child` says from a network, pid and user namespace of its own, or why there can be none.
#[allow(clippy::disallowed_methods, reason = "tests may shell out")]
async fn elsewhere(address: &str) -> Result<String, String> {
    let exe = std::env::current_exe().unwrap();
    let mut unshare = tokio::process::Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    unshare
        .arg(exe)
        .args(["--exact", "child", "--nocapture"])
        .env(ADDRESS, address);
    let output = unshare.output().await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.find("child ").map(|at| line[at..].to_owned()));
    line.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn processes_of_one_user_are_told_apart_by_their_namespaces() {
    let link = fs::read_link("/proc/self/ns/net").unwrap();
    let netns = link
        .to_string_lossy()
        .trim_end_matches(']')
        .split_once('[')
        .unwrap()
        .1
        .to_owned();
    let ours = format!(
        "{{id: {}, selectors: {{uid: {}, netns: {netns}}}}}",
        id("node"),
        own_uid()
    );
    let others = format!("{{id: {}, selectors: {{uid: {}}}}}", id("pod"), own_uid());
    let agent = Agent::new(&format!("entries: [{ours}]"), HOUR);
    let refused = match elsewhere(&agent.address()).await {
        Ok(refused) => refused,
        Err(reason) => {
            println!("skipped: no user namespaces here: {reason}");
            return;
        }
    };
    assert!(refused.contains("no identity issued"), "{refused}");
    agent.set_entries(&format!("entries: [{ours}, {others}]"));
    let known = elsewhere(&agent.address()).await.unwrap();
    assert_eq!(known, format!("child got {}", id("pod")));
    let here = Workload::connect(&agent.address(), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(here.source().current().id(), &id("node"));
}
