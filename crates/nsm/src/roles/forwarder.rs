//! `nsm forwarder`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use nsm_chain::Target;
use nsm_confine::Profile;
use nsm_forwarder::{Config, Forwarder, Kernel as _, Netlink, Parts, Underlay};
use nsm_kernel::{Claim, Executor, NetnsFd, owner::ClaimError, setup};
use nsm_model::mechanism::{Kind, default_port};
use nsm_policy::roles::Role;
use nsm_registry::remote::Remote;
use nsm_rpc::Listener;
use serde::Serialize;

use crate::{
    begin::Beginning,
    config::{labels, truth, written_labels},
    journal::{Journalled, Table},
    policies::{Asks, Masks},
    roles::{MANAGER_SOCKET, registration},
    sockets::Sockets,
    station::{Common, Station, address, seconds, written_address},
};

/// Settings of `nsm forwarder`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    sockets: Sockets,
    /// The hop's name: stable, one for each node
    #[arg(long, env = "NSM_NAME", default_value = "forwarder")]
    name: String,
    /// The node's manager
    #[arg(long, env = "NSM_CONNECT_TO", value_parser = written_address, default_value = MANAGER_SOCKET)]
    connect_to: String,
    /// The unix socket at which the manager reaches it
    #[arg(
        long,
        env = "NSM_LISTEN_ON", value_parser = written_address,
        default_value = "unix:///run/nsm/forwarder.sock"
    )]
    listen_on: String,
    /// Labels that a service may choose a forwarder by
    #[arg(long, env = "NSM_LABELS", value_parser = written_labels, default_value = "p2p:true")]
    labels: String,
    /// The service that it registers under
    #[arg(long, env = "NSM_NS_NAME", default_value = "forwarder")]
    ns_name: String,
    /// This node's end of tunnels, IPv4 or IPv6; else its own address
    #[arg(long, env = "NSM_TUNNEL_IP")]
    tunnel_ip: Option<IpAddr>,
    /// The UDP port of VXLAN; 0 means 4789
    #[arg(long, env = "NSM_VXLAN_PORT", default_value_t = 0)]
    vxlan_port: u16,
    /// Refuse to carry IP payload between nodes unencrypted
    #[arg(long, env = "NSM_REQUIRE_ENCRYPTION")]
    require_encryption: bool,
    /// Ask the nodes that tunnels lead to whether packets arrive, five times a second each
    #[arg(long, env = "NSM_PATH_PROBE", default_value = "true", value_parser = truth, action = clap::ArgAction::Set)]
    path_probe: bool,
    /// How often the counters of connections are read
    #[arg(long, env = "NSM_METRICS_INTERVAL", default_value = "10s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    metrics_interval: Duration,
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
            asks: Some(&self.asks),
            ..Masks::default()
        }
    }

    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        self.common.beginning(Profile::Forwarder)
    }
}

/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// Runs the forwarder.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let station = Station::start(
        "forwarder",
        &settings.name,
        &settings.common,
        settings.masks(),
        &settings,
    )
    .await?;
    let config = configure(&settings)?;
    let claimed = claim(&settings.name)?;
    let executor = Arc::new(Executor::new(&settings.name).context(
        "preparing the kernel's part (needs CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_NET_BROADCAST)",
    )?);
    let underlay = Underlay::new(Arc::clone(&executor), config.tunnel_ip, config.vxlan_port);
    let kernel = Netlink::new(executor);
    let (listening, gone) = kernel.listen().context("listening to the kernel")?;
    let manager = Target::Url(
        address(&settings.connect_to).map_err(|error| anyhow!("--connect-to: {error}"))?,
    );
    let mut journalled = Journalled::open(settings.common.state_dir.as_deref(), &settings.name)?;
    let wholeness = journalled.wholeness();
    kernel.mark(*wholeness.written().borrow());
    let parts = Parts {
        journal: journalled.journal(Table::Connections),
        peers: journalled.noted(Table::Peers),
        owed: journalled.noted(Table::Owed),
        secret: station.secret.clone(),
        tokens: Arc::new(station.tokens.clone()),
        transport: Arc::new(station.transport.clone()),
        directory: Arc::new(Remote::new(station.to(&[Role::Manager]), manager.clone())),
        roles: station.roles.clone(),
        kernel: Arc::new(kernel),
        table: station.table(),
        tasks: station.tasks.clone(),
    };
    let forwarder = Forwarder::new(&config, &parts);
    forwarder.attend(&config, &parts, gone, settings.metrics_interval);
    let restored = nsm_chain::restore(&forwarder.chain, journalled.take(Table::Connections)).await;
    tracing::info!(?restored, "connections of before");
    if claimed.is_some() && restored.unreadable == 0 {
        forwarder.sweep_when_whole(&parts, Arc::new(wholeness.clone()));
    } else {
        tracing::warn!("not everything of before is known: links that nobody owns are left alone");
    }
    forwarder.mark(&parts, wholeness.written());
    if settings.path_probe {
        forwarder.probe(&parts, Arc::new(underlay));
    }
    let own = address(&settings.listen_on).map_err(|error| anyhow!("--listen-on: {error}"))?;
    let listener =
        Listener::bind_for(std::slice::from_ref(&own), &settings.sockets.access()?).await?;
    let server = station.server().connections(forwarder.chain);
    let own_labels: BTreeMap<String, String> =
        labels(&settings.labels).map_err(|error| anyhow!("--labels: {error}"))?;
    let record = registration::endpoint(
        &settings.name,
        &own.to_string(),
        std::slice::from_ref(&settings.ns_name),
        &own_labels,
    );
    // No service of that name is registered, as in the Go implementation: managers look for the
    // endpoint alone, and a registry of Go lets one forwarder have the name and refuses all others.
    let way = station.to(&[Role::Manager]);
    let registration = registration::keep(way, &station, manager, Vec::new(), record);
    let served = station
        .serve_registered(listener, server, registration)
        .await;
    drop(listening);
    drop(claimed);
    served
}

/// The forwarder's name, once on this node: who has it sweeps what its name is on. Somebody else's
/// process that holds it stops that, and nothing more.
fn claim(name: &str) -> anyhow::Result<Option<Claim>> {
    match Claim::take(name) {
        Ok(claim) => Ok(Some(claim)),
        Err(error @ ClaimError::Held(_)) => Err(error.into()),
        Err(error @ (ClaimError::Squatted { .. } | ClaimError::Refused(..))) => {
            tracing::error!(%error, "going on; links that nobody owns are left alone");
            Ok(None)
        }
    }
}

/// The settings as the role takes them.
fn configure(settings: &Settings) -> anyhow::Result<Config> {
    let tunnel_ip = match settings.tunnel_ip {
        Some(ip) => ip,
        None => super::own_address()?,
    };
    let config = Config {
        name: settings.name.clone(),
        tunnel_ip,
        vxlan_port: match settings.vxlan_port {
            0 => default_port(&Kind::Vxlan).unwrap_or(VXLAN_PORT),
            port => port,
        },
        underlay_mtu: underlay_mtu(tunnel_ip)?,
        require_encryption: settings.require_encryption,
    };
    if !config.require_encryption {
        tracing::warn!(
            "IP payload to other nodes goes unencrypted over VXLAN; --require-encryption refuses it"
        );
    }
    Ok(config)
}

/// The MTU of the device that has the tunnel's address.
fn underlay_mtu(tunnel_ip: IpAddr) -> anyhow::Result<u32> {
    let mtu = setup::Own::open()
        .and_then(|mut own| own.mtu_of(tunnel_ip))
        .context("reading the links of this node")?;
    mtu.ok_or_else(|| {
        anyhow!("--tunnel-ip {tunnel_ip}: no interface of this node has that address")
    })
}

/// The namespace that this process is in, as mechanisms and plans say it.
pub(crate) fn own_namespace() -> anyhow::Result<nsm_sdk::Namespace> {
    let descriptor = std::fs::File::open("/proc/thread-self/ns/net")
        .context("opening the own network namespace")?;
    let id = NetnsFd::current()
        .context("reading the own network namespace")?
        .id();
    let inode = nsm_model::url::InodeUrl {
        dev: id.dev,
        ino: id.ino,
    };
    Ok(nsm_sdk::Namespace {
        inode,
        descriptor: Arc::new(descriptor.into()),
    })
}
