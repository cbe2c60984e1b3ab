//! The story: what is set up, what is measured, what is broken and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nsm_lab::{
    Interrupt, Lab,
    measure::{FlowReport, RATE, UdpFlow, ping, port_open, tcp_throughput},
};

use super::{
    counters, picture,
    report::{Connect, Report},
    teller,
};
use crate::lab::stage::{
    ALLOWED_PORT, Connected, Connection, DENIED_PORT, ECHO_PORT, SERVICE, Stage,
};

/// Echo requests whose median is told.
const PINGS: u32 = 100;
const PING_INTERVAL: Duration = Duration::from_millis(5);
/// How long the transfer takes.
const TRANSFER: Duration = Duration::from_secs(1);
/// A filter drops silently: without an answer for so long, a port counts as closed.
const PORT_PATIENCE: Duration = Duration::from_secs(1);
/// The flow before the fault.
const CALM: Duration = Duration::from_secs(1);
/// The flow after its return, so that what is lost then is seen as well.
const AFTER: Duration = Duration::from_secs(1);
/// How often a pause looks whether it should end.
const LOOK: Duration = Duration::from_millis(10);
/// No return in this time is a failure.
const RETURN: Duration = Duration::from_secs(10);
/// The rule of examples/firewall.yaml that denies.
const DENYING: &[usize] = &[3];
/// The client of the story.
const CLIENT: &str = "client";

/// Tells it, and fills the report.
pub(super) fn tell(
    lab: &Lab,
    interrupt: &Interrupt,
    log_level: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    teller::remark(
        "A network service mesh on this machine, in namespaces of its own. Every role is a\n  process with an identity of its own. Ctrl-C ends it at any time and leaves nothing.",
    );
    let mut stage = mesh(lab, log_level)?;
    plain(&mut stage, report)?;
    let connected = chain(&mut stage, report)?;
    traffic(&stage, &connected, report)?;
    fault(&stage, interrupt, &connected, report)
}

fn mesh(lab: &Lab, log_level: &str) -> anyhow::Result<Stage> {
    teller::chapter("A mesh of two nodes");
    let began = Instant::now();
    let stage = Stage::up(lab, 2, log_level)?;
    teller::step(
        "registry; per node identity agent, manager, forwarder",
        &since(began),
    );
    Ok(stage)
}

/// Connects to a plain service, on one node and across two.
fn plain(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    teller::chapter("A plain service: an endpoint of \"hello\" on node-1");
    stage.hello()?;
    for (at, name, how) in [(0, "near", "a veth pair"), (1, "far", "VXLAN")] {
        let connected = stage.client(at, name, "hello")?;
        let what = format!("{name} on {} asks for hello: {how}", stage.node_of(name)?);
        teller::step(&what, &milliseconds(connected.took_ms));
        let echo = ping(stage.cell(name)?, connected.peer, PINGS / 10, PING_INTERVAL)?;
        let median = echo.p50_us.context("hello does not answer")?;
        teller::step(
            &format!(
                "    ping {}: {} of {}",
                connected.peer, echo.received, echo.sent
            ),
            &format!("{median:.0} us"),
        );
        report.connects.push(Connect {
            client: name.to_owned(),
            service: "hello".to_owned(),
            nodes: at + 1,
            ms: connected.took_ms,
        });
        let began = Instant::now();
        stage.end(name)?;
        teller::step(&format!("    {name} closes and ends"), &since(began));
    }
    Ok(())
}

/// Sets the chain up, and connects through it.
fn chain(stage: &mut Stage, report: &mut Report) -> anyhow::Result<Connected> {
    teller::chapter("A VPN behind a firewall: examples/secure-intranet.yaml");
    let began = Instant::now();
    stage.services()?;
    teller::step(
        "nsm apply: client -> app=firewall -> app=gateway",
        &since(began),
    );
    let began = Instant::now();
    stage.gateways()?;
    stage.firewall()?;
    teller::step(
        "a gateway on each node, a firewall on node-1",
        &since(began),
    );
    let connected = stage.client(0, CLIENT, &format!("{SERVICE}/nsm-1?app=client"))?;
    let what = format!("client on node-1 asks for {SERVICE}");
    teller::step(&what, &milliseconds(connected.took_ms));
    let stations = show(stage, &stage.connection(CLIENT)?);
    report.path = stations.iter().map(|one| one.name.clone()).collect();
    let mut nodes: Vec<&str> = stations.iter().map(|one| one.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    report.connects.push(Connect {
        client: CLIENT.to_owned(),
        service: SERVICE.to_owned(),
        nodes: nodes.len(),
        ms: connected.took_ms,
    });
    Ok(connected)
}

fn show(stage: &Stage, connection: &Connection) -> Vec<picture::Station> {
    let stations = picture::stations(&connection.hops, |name| {
        stage.node_of(name).ok().map(str::to_owned)
    });
    teller::picture(&picture::draw(&stations));
    stations
}

/// Real packets, and what the firewall makes of them.
fn traffic(stage: &Stage, connected: &Connected, report: &mut Report) -> anyhow::Result<()> {
    teller::chapter("Packets");
    let client = stage.cell(CLIENT)?;
    let gateway = report.path.last().context("the path is empty")?.clone();
    let before = counted(stage, &gateway)?;
    let echo = ping(client, connected.peer, PINGS, PING_INTERVAL)?;
    report.rtt_us = echo.p50_us.context("the gateway does not answer")?;
    teller::step(
        &format!(
            "ping {}: {} of {}",
            connected.peer, echo.received, echo.sent
        ),
        &format!("{:.0} us", report.rtt_us),
    );
    let transfer = tcp_throughput(client, connected.port(ALLOWED_PORT), TRANSFER)?;
    report.tcp_gbps = transfer.gbps;
    teller::step(
        &format!(
            "TCP to port {ALLOWED_PORT}: {} MB",
            transfer.bytes / 1_000_000
        ),
        &format!("{:.2} Gbit/s", transfer.gbps),
    );
    report.allowed_port_open = port_open(client, connected.port(ALLOWED_PORT), PORT_PATIENCE)?;
    teller::step(
        &format!("port {ALLOWED_PORT}, which the firewall allows"),
        open(report.allowed_port_open),
    );
    let listens = port_open(
        stage.cell(&gateway)?,
        connected.port(DENIED_PORT),
        PORT_PATIENCE,
    )?;
    ensure!(
        listens,
        "the server in {gateway} does not listen at {DENIED_PORT}"
    );
    report.denied_port_open = port_open(client, connected.port(DENIED_PORT), PORT_PATIENCE)?;
    teller::step(
        &format!("port {DENIED_PORT}, which it denies (the server listens there)"),
        open(report.denied_port_open),
    );
    let after = counted(stage, &gateway)?;
    told_counters(&gateway, before, after)
}

type Counted = (counters::Filtered, (u64, u64));

fn counted(stage: &Stage, gateway: &str) -> anyhow::Result<Counted> {
    Ok((
        counters::filtered(stage.cell("firewall")?, DENYING)?,
        counters::packets(stage.cell(gateway)?)?,
    ))
}

fn told_counters(gateway: &str, before: Counted, after: Counted) -> anyhow::Result<()> {
    let passed = after.0.passed - before.0.passed;
    let dropped = after.0.dropped - before.0.dropped;
    let (received, sent) = (after.1.0 - before.1.0, after.1.1 - before.1.1);
    teller::step(
        "the firewall has counted",
        &format!("{passed} passed, {dropped} dropped"),
    );
    teller::step(
        &format!("{gateway} has counted"),
        &format!("{received} received, {sent} sent"),
    );
    ensure!(
        passed > 0 && dropped > 0 && received > 0 && sent > 0,
        "a counter has not moved"
    );
    Ok(())
}

/// Kills the gateway in use, and waits for the other one.
fn fault(
    stage: &Stage,
    interrupt: &Interrupt,
    connected: &Connected,
    report: &mut Report,
) -> anyhow::Result<()> {
    let gateway = report.path.last().context("the path is empty")?.clone();
    teller::chapter(&format!("{gateway} dies"));
    let flow = UdpFlow::start(stage.cell(CLIENT)?, connected.port(ECHO_PORT), RATE)?;
    pause(interrupt, CALM)?;
    let fault = flow.now();
    let calm = flow.report(Duration::ZERO, fault);
    report.lost_before_fault = calm.lost;
    teller::step(
        &format!(
            "{RATE} datagrams a second to {}, lost of {}",
            connected.peer, calm.sent
        ),
        &calm.lost.to_string(),
    );
    stage.kill(&gateway)?;
    teller::step(
        &format!("{gateway}: every process killed, its namespaces gone"),
        "",
    );
    let returned = flow.wait_answer(flow.now(), RETURN);
    pause(interrupt, AFTER)?;
    let stays = returned && flow.wait_answer(flow.now(), RETURN);
    ensure!(stays, "no answer came back within {RETURN:?}");
    let end = flow.now();
    let seen = flow.report(fault, end);
    report.outage_ms = seen.outage_ms;
    told_return(&flow, &seen, end);
    let connection = settled(stage)?;
    let other = connection.hops.last().map_or("", String::as_str);
    ensure!(
        other != gateway,
        "the path still ends at {gateway}, which is dead"
    );
    let what = format!("the connection of {} ends at {other}", connection.client);
    teller::step(&what, &connection.state);
    show(stage, &connection);
    Ok(())
}

/// Waits, unless somebody ends the story: then nothing that is measured means anything.
fn pause(interrupt: &Interrupt, how_long: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < how_long {
        ensure!(!interrupt.raised(), "interrupted");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The client's connection when every hop knows of the change.
fn settled(stage: &Stage) -> anyhow::Result<Connection> {
    let began = Instant::now();
    loop {
        let connection = stage.connection(CLIENT)?;
        if connection.state == "UP" {
            return Ok(connection);
        }
        ensure!(
            began.elapsed() < RETURN,
            "the connection of {CLIENT} is {} for {RETURN:?}",
            connection.state
        );
    }
}

fn told_return(flow: &UdpFlow, seen: &FlowReport, end: Duration) {
    teller::step(
        "answers come from the other gateway after",
        &milliseconds(seen.outage_ms),
    );
    let again = Duration::from_secs_f64(seen.outage_end_ms / 1e3);
    let after = flow.report(again, end);
    teller::step(
        &format!("lost after that, of {}", after.sent),
        &after.lost.to_string(),
    );
}

fn open(open: bool) -> &'static str {
    if open { "open" } else { "closed" }
}

fn since(began: Instant) -> String {
    milliseconds(began.elapsed().as_secs_f64() * 1e3)
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.1} ms")
}
