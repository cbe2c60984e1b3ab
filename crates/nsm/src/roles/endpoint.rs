//! `nsm endpoint`: offers a service, or stands in the middle of one.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use nsm_api::{
    connectioncontext::{DNSConfig, Route},
    registry::NetworkService,
};
use nsm_chain::Target;
use nsm_model::{
    filter::FilterRules,
    ipam::{PointToPoint, parse_groups},
};
use nsm_rpc::Listener;
use nsm_sdk::{Bridges, Endpoint, Kind, Parts, elements::Prefixes};
use serde::{Deserialize, Serialize};

use crate::{
    config::labels,
    roles::{MANAGER_SOCKET, forwarder::own_namespace, registration},
    station::{Common, Station, address},
};

/// Settings of `nsm endpoint`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Its name in the registry: one for each endpoint
    #[arg(long, env = "NSM_NAME", default_value = "nse")]
    name: String,
    /// The node's manager
    #[arg(long, env = "NSM_CONNECT_TO", default_value = MANAGER_SOCKET)]
    connect_to: String,
    /// The unix socket at which the forwarder reaches it
    #[arg(
        long,
        env = "NSM_LISTEN_ON",
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
    #[arg(long, env = "NSM_PAYLOAD", default_value = "ETHERNET")]
    payload: String,
    /// Its labels, for every service
    #[arg(long, env = "NSM_LABELS", default_value = "")]
    labels: String,
    /// Where addresses come from: `10.0.0.0/24`, two families as `[10.0.0.0/24],[fd00::/64]`
    #[arg(long, env = "NSM_CIDR_PREFIX", default_value = "169.254.0.0/16")]
    cidr_prefix: String,
    /// What clients reach through it: `192.168.0.0/16`, or with a next hop `10.0.0.0/8 via 10.1.1.1`
    #[arg(long, env = "NSM_ROUTES", value_delimiter = ',')]
    routes: Vec<String>,
    /// The MTU of its connections in bytes; 0 leaves it open
    #[arg(long, env = "NSM_MTU", default_value_t = 0)]
    mtu: u32,
    /// DNS for clients, JSON: `[{"dns_server_ips":["10.0.0.1"],"search_domains":["my.domain"]}]`
    #[arg(long, env = "NSM_DNS_CONFIGS", default_value = "[]")]
    dns_configs: String,
    /// Register the services as well as the endpoint
    #[arg(long, env = "NSM_REGISTER_SERVICE", default_value_t = true, action = clap::ArgAction::Set)]
    register_service: bool,
    /// Stand in the middle: connections go on to the next function of their service
    #[arg(long, env = "NSM_PASSTHROUGH")]
    passthrough: bool,
    /// In the middle: what passes, YAML (`default: deny`, `rules: [...]`)
    #[arg(long, env = "NSM_FILTER", requires = "passthrough")]
    filter: Option<PathBuf>,
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

/// Runs the endpoint.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let station = Station::start("endpoint", &settings.name, &settings.common, &settings).await?;
    let manager = Target::Url(
        address(&settings.connect_to).map_err(|error| anyhow!("--connect-to: {error}"))?,
    );
    let own_labels = labels(&settings.labels).map_err(|error| anyhow!("--labels: {error}"))?;
    let parts = Parts {
        name: settings.name.clone(),
        secret: station.secret.clone(),
        tokens: Arc::new(station.tokens.clone()),
        transport: Arc::new(station.transport.clone()),
        manager: manager.clone(),
        namespace: own_namespace()?,
        table: station.table(),
        tasks: station.tasks.clone(),
    };
    let kind = kind(&settings, &station, own_labels.clone())?;
    let endpoint = Endpoint::new(&parts, kind, Vec::new());
    let own = address(&settings.listen_on).map_err(|error| anyhow!("--listen-on: {error}"))?;
    let listener = Listener::bind(std::slice::from_ref(&own)).await?;
    let server = station.server().connections(endpoint.chain);
    let record = registration::endpoint(
        &settings.name,
        &own.to_string(),
        &settings.service_names,
        &own_labels,
    );
    let registration = registration::keep(&station, manager, services(&settings), record);
    station
        .serve_registered(listener, server, registration)
        .await
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

fn kind(
    settings: &Settings,
    station: &Station,
    own_labels: BTreeMap<String, String>,
) -> anyhow::Result<Kind> {
    if settings.passthrough {
        let rules = settings.filter.as_ref().map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("--filter {}", path.display()))?;
            FilterRules::load_yaml(&text).with_context(|| format!("--filter {}", path.display()))
        });
        let rules = rules.transpose()?;
        let joiner = Bridges::new(rules.as_ref(), station.tasks.clone())
            .context("preparing the packet filter")?;
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
        .map(|text| route(text))
        .collect::<anyhow::Result<_>>()?;
    Ok(Kind::Terminal {
        prefixes: Prefixes::new(addresses),
        routes,
        dns,
        mtu: settings.mtu,
    })
}

fn route(text: &str) -> anyhow::Result<Route> {
    let (prefix, hop) = text.split_once(" via ").unwrap_or((text, ""));
    let (prefix, hop) = (prefix.trim(), hop.trim());
    if prefix.parse::<ipnet::IpNet>().is_err() {
        bail!("--routes: {prefix:?} is no prefix, such as 192.168.0.0/16");
    }
    if !hop.is_empty() && hop.parse::<std::net::IpAddr>().is_err() {
        bail!("--routes: next hop {hop:?} of {prefix} is no address");
    }
    Ok(Route {
        prefix: prefix.to_owned(),
        nextHop: hop.to_owned(),
        ..Default::default()
    })
}
