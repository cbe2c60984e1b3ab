//! `nsm trace`: one connection, hop by hop.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use anyhow::bail;
use clap::Args;
use nsm_api::{connection::Mechanism, registry::NetworkServiceEndpoint};
use nsm_model::{
    mechanism::{Kind, is_remote, keys},
    url::EndpointUrl,
};
use serde::Serialize;

use super::{
    connections::{Addresses, Flow, ends, state},
    draw::draw,
    get::{all, flows, heard},
    hops::Told,
    operator::{Connect, Forwarders, Operator},
    output::{self, Format, rfc3339},
    records::{Endpoint, nodes, offers},
};
use crate::roles::manager::MANAGER_SERVICE;

/// Settings of `nsm trace`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "nsm trace <CONNECTION> [OPTIONS]")]
pub(crate) struct Settings {
    /// Its id, the id that any hop has for it, CLIENT/ID, the client's name, or how its id begins
    connection: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    forwarders: Forwarders,
    #[command(flatten)]
    connect: Connect,
}

/// A connection with all its hops: a shape that stays.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trace {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) service: String,
    pub(crate) payload: String,
    /// The last hop.
    pub(crate) endpoint: String,
    pub(crate) state: String,
    pub(crate) addresses: Addresses,
    /// 0 where nobody has set one.
    pub(crate) mtu: u32,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    pub(crate) hops: Vec<Hop>,
    #[serde(skip)]
    pub(crate) ends: Option<SystemTime>,
}

/// A hop of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Hop {
    pub(crate) name: String,
    /// Its own name of the connection.
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) node: Option<String>,
    /// What it says of the connection; nothing where it was not asked.
    pub(crate) state: Option<String>,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    /// How packets come to it from the hop before that packets pass; nothing where no hop tells.
    pub(crate) mechanism: Option<Means>,
    /// As the hop counts.
    pub(crate) metrics: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) ends: Option<SystemTime>,
}

/// What a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Where the path begins.
    Client,
    /// A manager: no packet passes it.
    Manager,
    /// A forwarder.
    Forwarder,
    /// An endpoint: the last one, or a function on the way.
    Endpoint,
    /// Nothing that the registry knows.
    Unknown,
}

/// A mechanism.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Means {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Between nodes.
    pub(crate) remote: bool,
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Means {
    fn of(mechanism: &Mechanism) -> Option<Self> {
        let kind = Kind::of(mechanism);
        (!mechanism.r#type.is_empty()).then(|| Self {
            kind: mechanism.r#type.clone(),
            remote: is_remote(&kind),
            parameters: mechanism.parameters.clone(),
        })
    }

    /// From a metric of the wire, `TYPE/interface`, where no view tells.
    fn named(metrics: &BTreeMap<String, String>, key: &str) -> Option<Self> {
        let (kind, name) = metrics.get(key)?.split_once('/')?;
        Some(Self {
            kind: kind.to_owned(),
            remote: is_remote(&Kind::parse(kind)),
            parameters: BTreeMap::from([(keys::NAME.to_owned(), name.to_owned())]),
        })
    }
}

/// Runs `nsm trace`: every hop is asked, since any may have the connection.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let operator = Operator::start(&settings.connect).await?;
    let all = all(&operator).await?;
    let told = heard(&operator, &all, true).await;
    let mut known = Known::new(&all, &settings.forwarders.forwarder_network_service_name);
    for name in told.iter().filter_map(Told::door) {
        known.manager(name);
    }
    let flows = flows(told);
    let flow = pick(&flows, &settings.connection)?;
    let trace = Trace::new(flow, &known);
    output::write(&match settings.output {
        Format::Table => draw(&trace, SystemTime::now()),
        format @ (Format::Json | Format::Yaml) => output::structured(&trace, format)?,
    })
}

/// The most candidates that an error names.
const MAX_CANDIDATES: usize = 10;

/// The one connection that is meant.
fn pick<'a>(flows: &'a [Flow], wanted: &str) -> anyhow::Result<&'a Flow> {
    let whole = |flow: &Flow| format!("{}/{}", flow.client(), flow.id());
    let has_id = |flow: &Flow| flow.path().iter().any(|segment| segment.id == wanted);
    let ways: [&dyn Fn(&Flow) -> bool; 5] = [
        &|flow| whole(flow) == wanted,
        &|flow| flow.id() == wanted,
        &has_id,
        &|flow| flow.client() == wanted,
        &|flow| flow.id().starts_with(wanted),
    ];
    for way in ways {
        let found: Vec<&Flow> = flows.iter().filter(|flow| way(flow)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => bail!(
                "connection {wanted:?} is not the only one of its name: {}",
                listed(several.iter().map(|flow| whole(flow)))
            ),
        }
    }
    if flows.is_empty() {
        bail!("there is no connection {wanted:?}: no hop that was asked has any connection");
    }
    bail!(
        "there is no connection {wanted:?}; there are {}",
        listed(flows.iter().map(whole))
    )
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.map(|name| output::clean(&name)).collect();
    let more = names.len().saturating_sub(MAX_CANDIDATES);
    names.truncate(MAX_CANDIDATES);
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more (nsm get connections)"));
    }
    text
}

/// What the registry says of names.
#[derive(Debug, Default)]
pub(crate) struct Known {
    managers: BTreeSet<String>,
    forwarders: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    nodes: BTreeMap<String, String>,
    /// The node of what is reached through the manager that is asked.
    here: Option<String>,
}

impl Known {
    /// From all endpoints of the domain.
    pub(crate) fn new(all: &[NetworkServiceEndpoint], forwarder_service: &str) -> Self {
        let nodes = nodes(all);
        let mut known = Self::default();
        for record in all {
            let name = record.name.clone();
            if let Some(node) = Endpoint::new(record, &nodes).node {
                if EndpointUrl::parse(&record.url).is_local() {
                    known.here.get_or_insert_with(|| node.clone());
                }
                known.nodes.insert(name.clone(), node);
            }
            let kind = if offers(record, MANAGER_SERVICE) {
                &mut known.managers
            } else if offers(record, forwarder_service) {
                &mut known.forwarders
            } else {
                &mut known.endpoints
            };
            kind.insert(name);
        }
        known
    }

    /// A manager that does not list itself.
    fn manager(&mut self, name: &str) {
        self.managers.insert(name.to_owned());
        self.nodes
            .entry(name.to_owned())
            .or_insert_with(|| self.here.clone().unwrap_or_else(|| name.to_owned()));
    }

    fn role(&self, name: &str, index: usize, count: usize) -> Role {
        if index == 0 {
            Role::Client
        } else if self.managers.contains(name) {
            Role::Manager
        } else if self.forwarders.contains(name) {
            Role::Forwarder
        } else if self.endpoints.contains(name) || index + 1 == count {
            Role::Endpoint
        } else {
            Role::Unknown
        }
    }
}

impl Trace {
    /// All that is told of a connection.
    pub(crate) fn new(flow: &Flow, known: &Known) -> Self {
        let first = flow.first();
        let ends = flow.ends();
        Self {
            id: flow.id().to_owned(),
            client: flow.client().to_owned(),
            service: first.network_service.clone(),
            payload: first.payload.clone(),
            endpoint: flow.endpoint().to_owned(),
            state: flow.state(),
            addresses: Addresses::of(first),
            mtu: first.context.MTU,
            expires: ends.map(rfc3339),
            hops: hops(flow, known),
            ends,
        }
    }
}

fn hops(flow: &Flow, known: &Known) -> Vec<Hop> {
    let path = flow.path();
    let mut hops = Vec::new();
    // Where the packets were last: mechanisms are agreed between such hops.
    let mut before = 0;
    for (index, segment) in path.iter().enumerate() {
        let role = known.role(&segment.name, index, path.len());
        let mut mechanism = None;
        if role != Role::Manager && index > 0 {
            mechanism = (before + 1..=index)
                .rev()
                .filter_map(|at| flow.view(at))
                .find_map(|view| Means::of(&view.mechanism))
                .or_else(|| Means::named(&metrics(flow, index), "client_interface"))
                .or_else(|| Means::named(&metrics(flow, before), "server_interface"));
            before = index;
        }
        let until = ends(segment);
        hops.push(Hop {
            name: segment.name.clone(),
            id: segment.id.clone(),
            role,
            node: known.nodes.get(&segment.name).cloned(),
            state: flow.view(index).map(state),
            expires: until.map(rfc3339),
            mechanism,
            metrics: metrics(flow, index),
            ends: until,
        });
    }
    place_client(&mut hops);
    hops
}

/// Nobody registers clients: one is where the manager is that it asked.
fn place_client(hops: &mut [Hop]) {
    let asked = hops
        .get(1)
        .filter(|hop| hop.role == Role::Manager)
        .and_then(|hop| hop.node.clone());
    if let Some(client) = hops.first_mut()
        && client.node.is_none()
    {
        client.node = asked;
    }
}

/// A hop's counters: its own word, else what came to another hop with the path.
fn metrics(flow: &Flow, index: usize) -> BTreeMap<String, String> {
    let own = flow.view(index).into_iter();
    own.chain(flow.views().map(|(_, view)| view))
        .filter_map(|view| view.path.path_segments.get(index))
        .map(|segment| &segment.metrics)
        .find(|metrics| !metrics.is_empty())
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
