//! `nsm get`: what there is in a registry domain.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_model::service::to_yaml;

use super::{
    connections::{Flow, Overview, gather},
    hops::{self, Told},
    operator::{Connect, Forwarders, Operator},
    output::{self, Format},
    records::{Endpoint, Service, nodes, offers},
};
use crate::roles::manager::MANAGER_SERVICE;

/// Settings of `nsm get`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "nsm get <WHAT> [NAME] [OPTIONS]")]
pub(crate) struct Settings {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// The one of this name alone (connections: of this id)
    name: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    forwarders: Forwarders,
    #[command(flatten)]
    connect: Connect,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Network services
    #[value(alias = "service", alias = "networkservices")]
    Services,
    /// Endpoints, without managers and forwarders
    #[value(alias = "endpoint", alias = "nse")]
    Endpoints,
    /// Managers, one for each node
    #[value(alias = "manager")]
    Managers,
    /// Forwarders
    #[value(alias = "forwarder")]
    Forwarders,
    /// Connections, as the managers tell
    #[value(alias = "connection")]
    Connections,
}

/// Runs `nsm get`.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let operator = Operator::start(&settings.connect).await?;
    let text = match settings.what {
        What::Services => services(&operator, &settings).await?,
        What::Endpoints | What::Managers | What::Forwarders => {
            endpoints(&operator, &settings).await?
        }
        What::Connections => connections(&operator, &settings).await?,
    };
    output::write(&text)
}

/// Whether this is the one that was asked for.
fn wanted(settings: &Settings, name: &str) -> bool {
    settings.name.as_deref().is_none_or(|wanted| wanted == name)
}

/// One that was asked for by name must be there; that there is nothing at all is worth a word.
fn found(count: usize, what: &str, settings: &Settings) -> anyhow::Result<()> {
    match &settings.name {
        Some(name) if count == 0 => {
            bail!("there is no {what} {name:?}: `nsm get {what}s` lists those that there are")
        }
        None if count == 0 && settings.output == Format::Table => {
            output::note(&format!("there are no {what}s"));
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

/// A table with its headings, nothing without a row.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    output::table(headings, rows, output::width())
}

async fn services(operator: &Operator, settings: &Settings) -> anyhow::Result<String> {
    let directory = operator.directory();
    let deadline = operator.deadline();
    let mut found_services = directory
        .services("", deadline)
        .await
        .map_err(|error| operator.refused(error))?;
    found_services.retain(|service| wanted(settings, &service.name));
    found_services.sort_by(|a, b| a.name.cmp(&b.name));
    found(found_services.len(), "service", settings)?;
    if settings.output == Format::Yaml {
        let documents: Vec<String> = found_services
            .iter_mut()
            .map(|service| {
                // Whoever applies the file is the owner of what it makes.
                service.path_ids.clear();
                to_yaml(service).with_context(|| format!("writing service {:?}", service.name))
            })
            .collect::<Result<_, _>>()?;
        return Ok(documents.join("---\n"));
    }
    let all = all(operator).await?;
    let shapes: Vec<Service> = found_services
        .iter()
        .map(|service| Service::new(service, &all))
        .collect();
    if settings.output == Format::Json {
        return output::structured(&shapes, settings.output);
    }
    let rows: Vec<_> = shapes.iter().map(|one| one.row(operator.id())).collect();
    Ok(table(&Service::HEADINGS, &rows))
}

/// Every endpoint of the domain.
pub(super) async fn all(operator: &Operator) -> anyhow::Result<Vec<NetworkServiceEndpoint>> {
    operator
        .directory()
        .all_endpoints(operator.deadline())
        .await
        .map_err(|error| operator.refused(error))
}

async fn endpoints(operator: &Operator, settings: &Settings) -> anyhow::Result<String> {
    let forwarders = &settings.forwarders.forwarder_network_service_name;
    let mut all = all(operator).await?;
    let nodes = nodes(&all);
    all.retain(|one| {
        let (manager, forwarder) = (offers(one, MANAGER_SERVICE), offers(one, forwarders));
        let kind = match settings.what {
            What::Managers => manager,
            What::Forwarders => forwarder,
            What::Services | What::Endpoints | What::Connections => !manager && !forwarder,
        };
        kind && wanted(settings, &one.name)
    });
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let what = match settings.what {
        What::Managers => "manager",
        What::Forwarders => "forwarder",
        What::Services | What::Endpoints | What::Connections => "endpoint",
    };
    found(all.len(), what, settings)?;
    let shapes: Vec<Endpoint> = all.iter().map(|one| Endpoint::new(one, &nodes)).collect();
    if settings.output != Format::Table {
        return output::structured(&shapes, settings.output);
    }
    let (own, now) = (operator.id(), SystemTime::now());
    let lines = |row: &dyn Fn(&Endpoint) -> Vec<String>| shapes.iter().map(row).collect::<Vec<_>>();
    Ok(match settings.what {
        What::Managers => table(
            &Endpoint::MANAGER_HEADINGS,
            &lines(&|one| one.manager_row(own, now)),
        ),
        What::Forwarders => table(
            &Endpoint::FORWARDER_HEADINGS,
            &lines(&|one| one.forwarder_row(own, now)),
        ),
        What::Services | What::Endpoints | What::Connections => {
            table(&Endpoint::HEADINGS, &lines(&|one| one.row(own, now)))
        }
    })
}

/// What every hop tells; who does not answer is named on standard error.
pub(super) async fn heard(
    operator: &Operator,
    all: &[NetworkServiceEndpoint],
    local: bool,
) -> Vec<Told> {
    let told = hops::ask(operator, all, local).await;
    if told.is_empty() {
        output::note("no manager is registered: nobody can tell of connections");
    }
    if !operator.sees_all() {
        output::note(&format!(
            "managers show {} its own connections alone: the roles file says who is an operator (by default SPIFFE IDs below /operator)",
            operator.id()
        ));
    }
    for one in &told {
        if let Err(error) = &one.answer {
            output::note(&format!(
                "the connections of {} are not shown: {}",
                output::clean(&one.who),
                output::clean(&error.message)
            ));
        }
    }
    told
}

/// Connections as a whole, from what hops tell.
pub(super) fn flows(told: Vec<Told>) -> Vec<Flow> {
    gather(
        told.into_iter()
            .flat_map(|one| one.answer.unwrap_or_default()),
    )
}

async fn connections(operator: &Operator, settings: &Settings) -> anyhow::Result<String> {
    let all = all(operator).await?;
    let flows = flows(heard(operator, &all, false).await);
    let mut shapes: Vec<Overview> = flows.iter().map(Overview::new).collect();
    shapes.retain(|one| wanted(settings, &one.id));
    shapes.sort_by(|a, b| (&a.client, &a.id).cmp(&(&b.client, &b.id)));
    found(shapes.len(), "connection", settings)?;
    if settings.output != Format::Table {
        return output::structured(&shapes, settings.output);
    }
    let now = SystemTime::now();
    let rows: Vec<_> = shapes.iter().map(|one| one.row(now)).collect();
    Ok(table(&Overview::HEADINGS, &rows))
}
