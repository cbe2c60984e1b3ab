//! The operator's tools: the built program against a registry and managers. What it says is in
//! `transcripts`; `UPDATE_EXPECT=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod stage;

use expect_test::expect_file;
use serde_json::Value;
use stage::{Stage, connection};

const FIREWALL: &str = "\
apiVersion: networkservicemesh.io/v1
kind: NetworkService
metadata:
  name: vpn
spec:
  payload: ETHERNET
  matches:
    - source_selector:
        app: firewall
      routes:
        - destination_selector:
            app: gateway
    - routes:
        - destination_selector:
            app: firewall
          weight: 2
---
apiVersion: networkservicemesh.io/v1
kind: NetworkService
metadata:
  name: plain
spec: {}
";

const PATH: &str = "client nsmgr-1 forwarder-1 nsmgr-2 forwarder-2 gateway-1";

/// A mesh of two managers, of which the second is gone, with one connection over both.
async fn mesh() -> Stage {
    let mut stage = Stage::new().await;
    let long = connection(PATH, 1, "KERNEL");
    let mut short = connection("client nsmgr-1 forwarder-1 gateway-1", 1, "KERNEL");
    short.id = "other".to_owned();
    short.path.get_or_insert_default().path_segments[0].id = "client-1".to_owned();
    let url = stage
        .manager("nsmgr-1", vec![long, short])
        .await
        .to_string();
    stage
        .register("nsmgr-2", "nsmgr", "tcp://127.0.0.1:1", &[])
        .await;
    stage
        .register("forwarder-1", "forwarder", &url, &[("p2p", "true")])
        .await;
    let labels = [("app", "gateway"), ("nodeName", "node-2")];
    stage
        .register("gateway-1", "vpn", "tcp://127.0.0.1:1", &labels)
        .await;
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn services_come_change_and_go() {
    let stage = Stage::new().await;
    let lighter = FIREWALL.replace("weight: 2", "weight: 3");
    let bare = FIREWALL.split("  matches").next().unwrap();
    let inputs = [("two", FIREWALL), ("lighter", &lighter), ("bare", bare)];
    let lines = [
        "get services",
        "apply -f - < two",
        "apply -f - < two",
        "apply -f - < lighter",
        "apply -f - < bare",
        "get services",
        "get service vpn -o yaml",
        "get service vpn -o json",
        "delete service plain none",
        "delete -f - < two",
        "get services -o json",
    ];
    let story = stage.transcript(&lines, &inputs).await;
    expect_file!["transcripts/services.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_yaml_shows_can_be_applied() {
    let stage = Stage::new().await;
    stage.run_with(&["apply", "-f", "-"], &[], FIREWALL).await;
    let shown = stage.run(&["get", "services", "-o", "yaml"]).await.out;
    let again = stage.run_with(&["apply", "-f", "-"], &[], &shown).await;
    let expected = "networkservice/plain unchanged\nnetworkservice/vpn unchanged\n";
    assert_eq!((again.code, again.out.as_str()), (Some(0), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn overviews() {
    let stage = mesh().await;
    let lines = [
        "get services",
        "get endpoints",
        "get managers",
        "get forwarders",
        "get connections",
        "get connection client-1",
        "trace client-0",
        "trace client",
        "trace nobody",
    ];
    let story = stage.transcript(&lines, &[]).await;
    expect_file!["transcripts/overviews.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes() {
    let stage = mesh().await;
    let read = async |line: &str| -> Value {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        serde_json::from_str(&stage.run(&arguments).await.out).unwrap()
    };
    let one = read("get endpoint gateway-1 -o json").await;
    let keys: Vec<&String> = one[0].as_object().unwrap().keys().collect();
    let expected = "expires labels name node owner registered services url";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(one[0]["labels"]["vpn"]["app"], "gateway");
    assert_eq!(one[0]["node"], "node-2");
    let many = read("get connections -o json").await;
    assert_eq!(many[0]["hops"].as_array().unwrap().len(), 6, "{many}");
    assert_eq!(many[1]["addresses"]["client"][0], "172.16.1.1/32");
    let trace = read("trace client/client-1 -o json").await;
    assert_eq!(trace["hops"][1]["role"], "manager");
    assert_eq!(trace["hops"][2]["mechanism"]["type"], "KERNEL");
    assert_eq!(trace["hops"][3]["mechanism"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_in_place_of_the_registry() {
    let mut stage = Stage::new().await;
    let own = connection("client nsmgr-3 forwarder-3 gateway-3", 1, "KERNEL");
    let door = stage.door("nsmgr-3", vec![own]).await;
    let deaf = stage.manager("nsmgr-4", Vec::new()).await;
    let lines = [
        format!("get connections --manager {door}"),
        format!("trace client --manager {door}"),
        format!("get services --manager {deaf}"),
    ];
    let story = stage
        .transcript(&lines.each_ref().map(String::as_str), &[])
        .await;
    expect_file!["transcripts/manager.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_less_and_are_told() {
    let mut stage = mesh().await;
    let guest = format!("SPIFFE_ENDPOINT_SOCKET={}", stage.agent_for("/guest"));
    let lines = [
        format!("{guest} get connections"),
        format!("{guest} delete endpoint gateway-1"),
    ];
    let story = stage
        .transcript(&lines.each_ref().map(String::as_str), &[])
        .await;
    expect_file!["transcripts/guest.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let stage = Stage::new().await;
    let url = stage.registry.to_string();
    let all = url.replace("127.0.0.1", "0.0.0.0");
    let lines = [
        format!("health {url}"),
        format!("NSM_LISTEN_ON={all},unix:///nowhere health"),
        format!("health {url} --service registry.NetworkServiceRegistry"),
        format!("health {url} --service x.Y"),
        "health tcp://127.0.0.1:1".to_owned(),
        "health quic://x".to_owned(),
    ];
    let story = stage
        .transcript(&lines.each_ref().map(String::as_str), &[])
        .await;
    expect_file!["transcripts/health.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input() {
    let stage = Stage::new().await;
    let glued = FIREWALL.replace("app: firewall", "app:firewall");
    let pod = "apiVersion: v1\nkind: Pod\n";
    let inputs = [("empty", ""), ("pod", pod), ("glued", &glued)];
    let lines = [
        "get",
        "get pods",
        "get services -o xml",
        "get services --timeout soon",
        "get service vpn",
        "get services --registry-url http://x",
        "get services --registry-url tcp://127.0.0.1:1",
        "get services --manager nowhere",
        "SPIFFE_ENDPOINT_SOCKET=unix:///nowhere get services",
        "apply",
        "apply -f /nowhere.yaml",
        "apply -f - < empty",
        "apply -f - < pod",
        "apply -f - < glued",
        "delete",
        "delete service",
        "delete service vpn -f x",
        "trace",
        "trace x",
    ];
    let story = stage.transcript(&lines, &inputs).await;
    expect_file!["transcripts/bad-input.txt"].assert_eq(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough() {
    let stage = mesh().await;
    let ran = stage.run_unread(&["get", "endpoints", "-o", "json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}
