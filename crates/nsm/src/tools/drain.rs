//! `nsm drain`: a node's endpoints take nobody new, and who is with them goes to others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use nsm_api::registry::{NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_chain::{Expected, Registrar as _, Target};
use nsm_manager::elements::DRAINING;
use nsm_model::url::EndpointUrl;
use nsm_policy::roles::Role;
use nsm_registry::remote::Remote;
use tokio::time::Instant;

use super::{
    get, hops,
    operator::{Connect, Forwarders, Operator},
    output,
    records::{Endpoint, nodes, offers},
};
use crate::roles::manager::MANAGER_SERVICE;

/// Between two looks at who is still there.
const LOOK: Duration = Duration::from_millis(200);

/// Settings of `nsm drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The node's name, as `nsm get endpoints` shows it
    node: String,
    /// Its endpoints take new clients again
    #[arg(long)]
    undo: bool,
    /// How long clients may take to find another endpoint
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    forwarders: Forwarders,
    #[command(flatten)]
    connect: Connect,
}

/// Connections by client and id, and which of the node's endpoints they go through.
type Served = BTreeMap<(String, String), String>;

/// Runs `nsm drain`: an error if a client stays.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let operator = Operator::start(&settings.connect).await?;
    let all = get::all(&operator).await?;
    let here = here(&settings, &all)?;
    let names: BTreeSet<String> = here.iter().map(|one| one.name.clone()).collect();
    let before = served(&operator, &all, &names).await;
    for endpoint in &here {
        let name = output::clean(&endpoint.name);
        mark(&operator, endpoint, !settings.undo)
            .await
            .with_context(|| format!("endpoint {name}"))?;
        let done = if settings.undo {
            "takes clients again"
        } else {
            "takes nobody new"
        };
        output::write(&format!("endpoint/{name} {done}"))?;
    }
    if settings.undo {
        return Ok(());
    }
    let deadline = Instant::now() + settings.wait;
    let stays = loop {
        let stays = served(&operator, &all, &names).await;
        if stays.is_empty() || Instant::now() >= deadline {
            break stays;
        }
        tokio::time::sleep(LOOK).await;
    };
    for ((client, id), endpoint) in &before {
        let what = format!(
            "connection/{} of {}",
            output::clean(id),
            output::clean(client)
        );
        match stays.get(&(client.clone(), id.clone())) {
            None => output::write(&format!("{what} moved"))?,
            Some(_) => output::note(&format!(
                "{what} stays with {}: no other endpoint has taken it",
                output::clean(endpoint)
            )),
        }
    }
    if !stays.is_empty() {
        bail!(
            "{} of {} connections stay on {}, and packets of theirs flow: start endpoints elsewhere that match them, and \
             drain again",
            stays.len(),
            before.len().max(stays.len()),
            settings.node
        );
    }
    Ok(())
}

/// The endpoints of the node.
fn here(
    settings: &Settings,
    all: &[NetworkServiceEndpoint],
) -> anyhow::Result<Vec<NetworkServiceEndpoint>> {
    let nodes = nodes(all);
    let node = |one: &NetworkServiceEndpoint| Endpoint::new(one, &nodes).node;
    let there: Vec<_> = all
        .iter()
        .filter(|one| node(one).as_deref() == Some(&settings.node))
        .collect();
    if there.is_empty() {
        let known: BTreeSet<String> = all.iter().filter_map(node).collect();
        let known: Vec<String> = known.into_iter().collect();
        bail!(
            "no node {:?} is known; there are: {}",
            settings.node,
            known.join(", ")
        );
    }
    let forwarders = &settings.forwarders.forwarder_network_service_name;
    let role =
        |one: &NetworkServiceEndpoint| offers(one, MANAGER_SERVICE) || offers(one, forwarders);
    Ok(there
        .into_iter()
        .filter(|one| !role(one))
        .cloned()
        .collect())
}

/// Tells the endpoint's manager.
async fn mark(
    operator: &Operator,
    endpoint: &NetworkServiceEndpoint,
    draining: bool,
) -> anyhow::Result<()> {
    let mut marked = endpoint.clone();
    let labels = NetworkServiceLabels {
        labels: [(DRAINING.to_owned(), draining.to_string())].into(),
        ..Default::default()
    };
    let services = marked.network_service_names.iter();
    marked.network_service_labels = services
        .map(|service| (service.clone(), labels.clone()))
        .collect();
    let expected = Expected::role(operator.roles(), &[Role::Manager]);
    let way = operator.transport.clone().expecting(expected);
    let manager = Target::Url(EndpointUrl::parse(&endpoint.url));
    let manager = Remote::new(way, manager);
    Ok(manager.unregister(marked, operator.deadline()).await?)
}

/// Who goes through these endpoints now, as all managers tell.
async fn served(
    operator: &Operator,
    all: &[NetworkServiceEndpoint],
    names: &BTreeSet<String>,
) -> Served {
    let flows = get::flows(hops::ask(operator, all, false).await);
    let through = flows.iter().filter_map(|flow| {
        let mut stations = flow.path().iter().skip(1);
        let station = stations.find(|segment| names.contains(&segment.name))?;
        let who = (flow.client().to_owned(), flow.id().to_owned());
        Some((who, station.name.clone()))
    });
    through.collect()
}
