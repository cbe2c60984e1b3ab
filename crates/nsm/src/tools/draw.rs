//! A connection as a picture: down the line go the packets.

use std::{collections::BTreeMap, time::SystemTime};

use nsm_model::mechanism::keys::{DST_IP, DST_PORT, NAME, SRC_IP, VNI};

use super::{
    output::{bytes, clean, until},
    trace::{Hop, Means, Role, Trace},
};

/// Draws it, top down from the client; without colour, at most as wide as its names make it.
pub(crate) fn draw(trace: &Trace, now: SystemTime) -> String {
    let names = trace
        .hops
        .iter()
        .map(|hop| clean(&hop.name).chars().count());
    // A manager's name stands two places further right.
    let wide = names.max().unwrap_or(0) + 2;
    let places = trace.hops.iter().map(|hop| place(hop).chars().count());
    let place_wide = places.max().unwrap_or(0);
    let mut lines = head(trace, now);
    for (index, hop) in trace.hops.iter().enumerate() {
        let rest = trace.hops.get(index + 1..).unwrap_or_default();
        // What leads on: the line of the mechanism to the next hop that packets pass.
        let next = rest.iter().find(|hop| hop.role != Role::Manager);
        let line = match next.and_then(|next| next.mechanism.as_ref()) {
            _ if next.is_none() => " ",
            Some(means) if means.remote => "┇",
            Some(_) => "┃",
            None => "╎",
        };
        let mark = if hop.role == Role::Manager {
            format!("{line} ○ ")
        } else {
            "● ".to_owned()
        };
        let (name, place) = (clean(&hop.name), place(hop));
        let name_wide = wide + 2 - mark.chars().count();
        let details = details(trace, hop, index, now);
        lines.push(format!(
            "{mark}{name:name_wide$}  {place:place_wide$}  {details}"
        ));
        if hop.role == Role::Manager {
            continue;
        }
        lines.extend(
            counters(&hop.metrics)
                .into_iter()
                .map(|text| format!("{line}     {text}")),
        );
        if let Some(next) = next {
            lines.push(format!("{line}   {}", means(next.mechanism.as_ref())));
        }
    }
    lines.push(String::new());
    lines.push(
        "● packets pass   ○ manager: agreed on it   ┃ on one node   ┇ between nodes   ╎ not told"
            .to_owned(),
    );
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

fn head(trace: &Trace, now: SystemTime) -> Vec<String> {
    let mut facts = vec![trace.state.clone()];
    facts.extend((!trace.payload.is_empty()).then(|| format!("payload {}", trace.payload)));
    facts.extend((trace.mtu > 0).then(|| format!("mtu {}", trace.mtu)));
    facts.extend(trace.ends.map(|ends| left(ends, now)));
    let (client, id) = (clean(&trace.client), clean(&trace.id));
    let (service, endpoint) = (clean(&trace.service), clean(&trace.endpoint));
    vec![
        format!("{client}/{id}: {service} at {endpoint}"),
        facts.join(", "),
        String::new(),
    ]
}

fn left(ends: SystemTime, now: SystemTime) -> String {
    match until(ends, now).as_str() {
        "expired" => "expired".to_owned(),
        left => format!("expires in {left}"),
    }
}

fn place(hop: &Hop) -> String {
    hop.node.as_deref().map_or_else(|| "-".to_owned(), clean)
}

/// Addresses at the ends, a state that is not up, and how long the hop's word lasts.
fn details(trace: &Trace, hop: &Hop, index: usize, now: SystemTime) -> String {
    let mut details = Vec::new();
    if index == 0 {
        details.extend(trace.addresses.client.iter().map(|text| clean(text)));
    } else if index + 1 == trace.hops.len() {
        details.extend(trace.addresses.endpoint.iter().map(|text| clean(text)));
    }
    details.extend(hop.state.iter().filter(|state| *state != "UP").cloned());
    details.extend(hop.ends.map(|ends| left(ends, now)));
    details.join("  ")
}

/// How packets travel, in one line.
fn means(means: Option<&Means>) -> String {
    let Some(means) = means else {
        return String::new();
    };
    let value = |key: &str| means.parameters.get(key).map(|value| clean(value));
    let mut text = clean(&means.kind);
    if let Some(vni) = value(VNI) {
        text.push_str(&format!(" vni {vni}"));
    }
    if let Some(name) = value(NAME) {
        text.push_str(&format!(" {name}"));
    }
    if let (Some(from), Some(to)) = (value(SRC_IP), value(DST_IP)) {
        text.push_str(&format!("  {from} > {to}"));
    }
    if let Some(port) = value(DST_PORT) {
        text.push_str(&format!(" port {port}"));
    }
    text
}

/// One line for each side that a hop counts (`client_rx_packets` and so on).
fn counters(metrics: &BTreeMap<String, String>) -> Vec<String> {
    let count = |side: &str, what: &str| -> Option<u64> {
        metrics.get(&format!("{side}_{what}"))?.parse().ok()
    };
    let way = |side: &str, way: &str| {
        let packets = count(side, &format!("{way}_packets"))?;
        let size = bytes(count(side, &format!("{way}_bytes")).unwrap_or(0));
        Some(format!("{way} {packets} packets {size}"))
    };
    ["client", "server"]
        .into_iter()
        .filter_map(|side| {
            let mut words: Vec<String> =
                ["rx", "tx"].iter().filter_map(|rx| way(side, rx)).collect();
            let drops = count(side, "drops").filter(|drops| *drops > 0);
            words.extend(drops.map(|drops| format!("{drops} dropped")));
            (!words.is_empty()).then(|| format!("{side:6}  {}", words.join("  ")))
        })
        .collect()
}
