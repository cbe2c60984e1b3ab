//! `nsm endpoint`: offers a service, or stands in the middle of one.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use nsm_api::{
    connectioncontext::{DNSConfig, Route},
    registry::NetworkService,
};
use nsm_chain::{Directory as _, Target};
use nsm_confine::Profile;
use nsm_model::{
    filter::FilterRules,
    ipam::{PointToPoint, parse_groups},
    mechanism::Payload,
};
use nsm_policy::roles::Role;
use nsm_registry::remote::Remote;
use nsm_rpc::Listener;
use nsm_sdk::{Blind, Bridges, Endpoint, Kind, Parts, elements::Prefixes};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    begin::Beginning,
    config::{labels, truth, written_labels},
    journal::{Journalled, Table},
    policies::{Asks, Masks},
    roles::{MANAGER_SOCKET, forwarder::own_namespace, place::Place, registration},
    sockets::Sockets,
    station::{Common, Station, address, written_address},
};

/// Settings of `nsm endpoint`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    sockets: Sockets,
    /// Its name in the registry: one for each endpoint
    #[arg(long, env = "NSM_NAME", default_value = "nse")]
    name: String,
    /// The node's manager
    #[arg(long, env = "NSM_CONNECT_TO", value_parser = written_address, default_value = MANAGER_SOCKET)]
    connect_to: String,
    /// The unix socket at which the forwarder reaches it
    #[arg(
        long,
        env = "NSM_LISTEN_ON", value_parser = written_address,
        default_value = "unix:///run/nsm-endpoint/nse.sock"
    )]
    listen_on: String,
    /// The services that it offers
    #[arg(
        long,
        env = "NSM_SERVICE_NAMES",
        value_delimiter = ',',
        required = true
    )]
    service_names: Vec<String>,
    /// ETHERNET or IP: the payload of the services that it registers
    #[arg(long, env = "NSM_PAYLOAD", value_parser = written_payload, default_value = "ETHERNET")]
    payload: String,
    /// Its labels, for every service
    #[arg(long, env = "NSM_LABELS", value_parser = written_labels, default_value = "")]
    labels: String,
    /// Where addresses come from: `10.0.0.0/24`, two families as `[10.0.0.0/24],[fd00::/64]`
    #[arg(long, env = "NSM_CIDR_PREFIX", value_parser = written_prefixes, default_value = "169.254.0.0/16")]
    cidr_prefix: String,
    /// What clients reach through it: `192.168.0.0/16`, or with a next hop `10.0.0.0/8 via
    /// 10.1.1.1`
    #[arg(long, env = "NSM_ROUTES", value_parser = written_route, value_delimiter = ',')]
    routes: Vec<String>,
    /// The MTU of its connections in bytes; 0 leaves it open
    #[arg(long, env = "NSM_MTU", default_value_t = 0)]
    mtu: u32,
    /// DNS for clients, JSON: `[{"dns_server_ips":["10.0.0.1"],"search_domains":["my.domain"]}]`
    #[arg(long, env = "NSM_DNS_CONFIGS", value_parser = written_dns, default_value = "[]")]
    dns_configs: String,
    /// Register the services as well as the endpoint
    #[arg(long, env = "NSM_REGISTER_SERVICE", default_value = "true", value_parser = truth, action = clap::ArgAction::Set)]
    register_service: bool,
    /// Stand in the middle: connections go on to the next function of their service
    #[arg(long, env = "NSM_PASSTHROUGH")]
    passthrough: bool,
    /// In the middle: what passes, YAML (`default: deny`, `rules: [...]`)
    #[arg(long, env = "NSM_FILTER", requires = "passthrough")]
    filter: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    place: Place,
    #[command(flatten)]
    #[serde(flatten)]
    asks: Asks,
}

impl Settings {
    /// Whose policies it needs.
    fn masks(&self) -> Masks<'_> {
        Masks {
            server: true,
            client: self.passthrough,
            asks: Some(&self.asks),
            ..Masks::default()
        }
    }

    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        self.common.beginning(if self.passthrough {
            Profile::Passthrough
        } else {
            Profile::Endpoint
        })
    }
}

/// A DNS setting as upstream writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    #[serde(default, alias = "dnsServerIps")]
    dns_server_ips: Vec<String>,
    #[serde(default, alias = "searchDomains")]
    search_domains: Vec<String>,
}

/// What is wrong is told before anything else happens, by whoever reads the setting.
fn written_prefixes(text: &str) -> Result<String, String> {
    let groups = parse_groups(text).map_err(|error| error.to_string())?;
    let addresses = PointToPoint::new(&groups).map_err(|error| error.to_string());
    addresses.map(|_| text.to_owned())
}

fn written_route(text: &str) -> Result<String, String> {
    route(text).map(|_| text.to_owned())
}

fn written_dns(text: &str) -> Result<String, String> {
    let configs: Result<Vec<Dns>, _> = serde_json::from_str(text);
    configs
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn written_payload(text: &str) -> Result<String, String> {
    match Payload::parse(text) {
        Payload::Other(_) => Err("write ETHERNET or IP".to_owned()),
        Payload::Ethernet | Payload::Ip => Ok(text.to_owned()),
    }
}

/// Runs the endpoint.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let rules = rules(&settings)?;
    let station = Station::start(
        "endpoint",
        &settings.name,
        &settings.common,
        settings.masks(),
        &settings,
    )
    .await?;
    let manager = Target::Url(
        address(&settings.connect_to).map_err(|error| anyhow!("--connect-to: {error}"))?,
    );
    let own_labels = labels(&settings.labels).map_err(|error| anyhow!("--labels: {error}"))?;
    let mut journalled = Journalled::open(settings.common.state_dir.as_deref(), &settings.name)?;
    let parts = Parts {
        // One that passes connections on takes them up again with their next request: what joins
        // its interfaces is asked for then.
        journal: journalled
            .journal(Table::Connections)
            .filter(|_| !settings.passthrough),
        name: settings.name.clone(),
        secret: station.secret.clone(),
        tokens: Arc::new(station.tokens.clone()),
        transport: Arc::new(station.transport.clone()),
        manager: manager.clone(),
        roles: station.roles.clone(),
        namespace: own_namespace()?,
        table: station.table(),
        // Its interfaces have no addresses to ask.
        liveness: Arc::new(Blind),
        tasks: station.tasks.clone(),
    };
    let kind = kind(&settings, rules.as_ref(), own_labels.clone())?;
    if parts.journal.is_none() {
        hold(&kind, &settings.name, &station, &manager).await;
    }
    let endpoint = Endpoint::new(&parts, kind, Vec::new());
    let restored = nsm_chain::restore(&endpoint.chain, journalled.take(Table::Connections)).await;
    tracing::info!(?restored, "connections of before");
    let own = address(&settings.listen_on).map_err(|error| anyhow!("--listen-on: {error}"))?;
    let listener =
        Listener::bind_for(std::slice::from_ref(&own), &settings.sockets.access()?).await?;
    let server = station.server().connections(endpoint.chain);
    let record = registration::endpoint(
        &settings.name,
        &own.to_string(),
        &settings.service_names,
        &settings.place.added_to(&own_labels),
    );
    let registration = registration::keep(
        station.to(&[Role::Manager]),
        &station,
        manager,
        services(&settings),
        record,
    );
    station
        .serve_registered(listener, server, registration)
        .await
}

/// How long a process that finds itself registered gives no address to new clients: those of the
/// process before have asked again by then.
const RECOVERY: Duration = Duration::from_secs(3);
/// How long it asks whether it is.
const LOOK_UP: Duration = Duration::from_secs(1);

/// A process of this name was here before, and nothing is left of what it knew.
async fn hold(kind: &Kind, name: &str, station: &Station, manager: &Target) {
    let Kind::Terminal { prefixes, .. } = kind else {
        return;
    };
    let registered = Remote::new(station.to(&[Role::Manager]), manager.clone());
    let now = Instant::now();
    if registered.endpoint(name, now + LOOK_UP).await.is_ok() {
        tracing::info!(
            hold_s = RECOVERY.as_secs(),
            "registered before this start: its clients ask first"
        );
        prefixes.hold_until(Instant::now() + RECOVERY);
    }
}

fn services(settings: &Settings) -> Vec<NetworkService> {
    if !settings.register_service {
        return Vec::new();
    }
    let service = |name: &String| NetworkService {
        name: name.clone(),
        payload: settings.payload.clone(),
        ..Default::default()
    };
    settings.service_names.iter().map(service).collect()
}

fn rules(settings: &Settings) -> anyhow::Result<Option<FilterRules>> {
    let load = |path: &PathBuf| {
        let said = || format!("--filter {}", path.display());
        let text = std::fs::read_to_string(path).with_context(said)?;
        FilterRules::load_yaml(&text).with_context(said)
    };
    settings.filter.as_ref().map(load).transpose()
}

fn kind(
    settings: &Settings,
    rules: Option<&FilterRules>,
    own_labels: BTreeMap<String, String>,
) -> anyhow::Result<Kind> {
    if settings.passthrough {
        let joiner = Bridges::new(rules).context("preparing the packet filter")?;
        return Ok(Kind::Passthrough {
            labels: own_labels,
            joiner: Arc::new(joiner),
        });
    }
    let groups = parse_groups(&settings.cidr_prefix).context("--cidr-prefix")?;
    let addresses = PointToPoint::new(&groups).context("--cidr-prefix")?;
    let dns: Vec<Dns> = serde_json::from_str(&settings.dns_configs)
        .with_context(|| format!("--dns-configs {:?}", settings.dns_configs))?;
    let dns = dns
        .into_iter()
        .map(|one| DNSConfig {
            dns_server_ips: one.dns_server_ips,
            search_domains: one.search_domains,
            ..Default::default()
        })
        .collect();
    let routes = settings
        .routes
        .iter()
        .map(|text| route(text).map_err(|error| anyhow!("--routes: {error}")))
        .collect::<anyhow::Result<_>>()?;
    Ok(Kind::Terminal {
        prefixes: Prefixes::new(addresses),
        routes,
        dns,
        mtu: settings.mtu,
    })
}

fn route(text: &str) -> Result<Route, String> {
    let (prefix, hop) = text.split_once(" via ").unwrap_or((text, ""));
    let (prefix, hop) = (prefix.trim(), hop.trim());
    if prefix.parse::<ipnet::IpNet>().is_err() {
        return Err(format!("{prefix:?} is no prefix, such as 192.168.0.0/16"));
    }
    if !hop.is_empty() && hop.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("next hop {hop:?} of {prefix} is no address"));
    }
    Ok(Route {
        prefix: prefix.to_owned(),
        nextHop: hop.to_owned(),
        ..Default::default()
    })
}
