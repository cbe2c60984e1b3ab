//! `nsm manager`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use anyhow::{Context as _, anyhow};
use clap::Args;
use nsm_chain::Target;
use nsm_confine::Profile;
use nsm_manager::{
    Config, Journals, Manager, Parts,
    elements::{Drained, Forwarders},
};
use nsm_model::url::EndpointUrl;
use nsm_policy::roles::Role;
use nsm_registry::mirror::{Mirror, RpcSource};
use nsm_rpc::Listener;
use serde::Serialize;

use crate::{
    begin::Beginning,
    journal::{Journalled, Table},
    policies::{Asked, Asks, Masks},
    roles::MANAGER_SOCKET,
    sockets::Sockets,
    station::{
        Common, Station, address, registry_address, written_address, written_registry_address,
    },
};

/// Settings of `nsm manager`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    sockets: Sockets,
    /// The hop's name: stable, one for each node
    #[arg(long, env = "NSM_NAME", default_value = "nsmgr")]
    name: String,
    /// The unix socket of the node's workloads, and a TCP address for other managers
    #[arg(long, env = "NSM_LISTEN_ON", value_parser = written_address, value_delimiter = ',', default_values = [MANAGER_SOCKET, "tcp://:5001"])]
    listen_on: Vec<String>,
    /// How other managers reach this one; else the first TCP address, with the node's own address
    #[arg(long, env = "NSM_PUBLIC_URL")]
    public_url: Option<String>,
    /// The registry: unix:///path, or tcp://host:port,host:port where several replicas serve
    #[arg(long, env = "NSM_REGISTRY_URL", value_parser = written_registry_address, default_value = "tcp://localhost:5002")]
    registry_url: String,
    /// The service that forwarders register under
    #[arg(
        long,
        env = "NSM_FORWARDER_NETWORK_SERVICE_NAME",
        default_value = "forwarder"
    )]
    forwarder_network_service_name: String,
    /// This node's name: the label nodeName of its clients and endpoints
    #[arg(long, env = "NODE_NAME")]
    node_name: Option<String>,
    /// This cluster's name: the label clusterName
    #[arg(long, env = "CLUSTER_NAME")]
    cluster_name: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    asked: Asked,
    #[command(flatten)]
    #[serde(flatten)]
    asks: Asks,
}

impl Settings {
    /// Whose policies it needs.
    fn masks(&self) -> Masks<'_> {
        Masks {
            server: true,
            client: true,
            asked: Some(&self.asked),
            asks: Some(&self.asks),
        }
    }

    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        self.common.beginning(Profile::Manager)
    }
}

/// The service under which managers register themselves, so that tools find them.
pub(crate) const MANAGER_SERVICE: &str = "nsmgr";

/// Runs the manager.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let station = Station::start(
        "manager",
        &settings.name,
        &settings.common,
        settings.masks(),
        &settings,
    )
    .await?;
    let addresses: Vec<EndpointUrl> = settings
        .listen_on
        .iter()
        .map(|text| address(text))
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::msg)?;
    let listener = Listener::bind_for(&addresses, &settings.sockets.access()?).await?;
    let registry = registry_address(&settings.registry_url)
        .map_err(|error| anyhow!("--registry-url: {error}"))?;
    let url = match &settings.public_url {
        Some(url) => url.clone(),
        None => public_url(listener.addresses())?,
    };
    let source = RpcSource {
        transport: station.to(&[Role::Registry]),
        target: Target::Url(registry.clone()),
    };
    let mut journalled = Journalled::open(settings.common.state_dir.as_deref(), &settings.name)?;
    let drained = journalled.take(Table::Drained);
    let drained = drained.into_iter().map(|(endpoint, _)| endpoint);
    let parts = Parts {
        journals: Journals {
            connections: journalled.journal(Table::Connections),
            endpoints: journalled.journal(Table::Endpoints),
            peers: journalled.noted(Table::Peers),
            owed: journalled.noted(Table::Owed),
        },
        drained: Drained::journalled(journalled.journal(Table::Drained), drained),
        secret: station.secret.clone(),
        tokens: Arc::new(station.tokens.clone()),
        transport: station.transport.clone(),
        registry: Target::Url(registry.clone()),
        mirror: Mirror::start(Arc::new(source)),
        table: station.table(),
        tasks: station.tasks.clone(),
    };
    let manager = Manager::new(&config(&settings, &station, &url), &parts);
    let endpoints = nsm_chain::restore(&manager.endpoints, journalled.take(Table::Endpoints)).await;
    let connections =
        nsm_chain::restore(&manager.connections, journalled.take(Table::Connections)).await;
    tracing::info!(?endpoints, ?connections, "of before");
    let server = station
        .server()
        .connections(manager.connections)
        .services(manager.services, manager.finder.clone())
        .endpoints(manager.endpoints, manager.finder);
    let registration = super::registration::of_manager(&station, registry, &settings.name, &url);
    let (registered, own) = (registration.registered(), url.clone());
    let (mirror, name) = (parts.mirror.clone(), settings.name.clone());
    station.tasks.spawn(async move {
        if registered.await.is_ok() {
            super::registration::tell_of_doubles(mirror, name, own).await;
        }
    });
    tracing::info!(url, "Startup completed");
    station.serve(listener, server).await
}

fn config(settings: &Settings, station: &Station, url: &str) -> Config {
    Config {
        name: settings.name.clone(),
        url: url.to_owned(),
        forwarders: Forwarders {
            service: settings.forwarder_network_service_name.clone(),
            roles: station.roles.clone(),
        },
        info: info(settings),
    }
}

fn info(settings: &Settings) -> BTreeMap<String, String> {
    [
        ("nodeName", &settings.node_name),
        ("clusterName", &settings.cluster_name),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
    .collect()
}

/// The first TCP address; where it has no host, this machine's first one that others can reach
/// (upstream `cmd-nsmgr`).
fn public_url(addresses: &[EndpointUrl]) -> anyhow::Result<String> {
    for url in addresses {
        let EndpointUrl::Tcp { host, port } = url else {
            continue;
        };
        let wildcard = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if !wildcard {
            return Ok(url.to_string());
        }
        let own = super::own_address()?;
        return Ok(EndpointUrl::Tcp {
            host: own.to_string(),
            port: *port,
        }
        .to_string());
    }
    Err(anyhow!("no TCP address to be reached at by other managers")).context("--listen-on")
}
