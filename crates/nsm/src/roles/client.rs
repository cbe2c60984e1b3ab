//! `nsm client` and `nsm init`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use nsm_chain::Target;
use nsm_confine::Profile;
use nsm_model::{mechanism::Kernel, nsurl::NsUrl};
use nsm_sdk::{Client, Order, Parts, Session};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    begin::Beginning,
    liveness::Check,
    policies::Masks,
    roles::{MANAGER_SOCKET, forwarder::own_namespace, place::Place},
    shutdown,
    station::{Common, Station, address, seconds, written_address},
};

/// Settings of `nsm client` and `nsm init`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Its name: stable, so that its connections are its own after a restart
    #[arg(long, env = "NSM_NAME", default_value = "nsc")]
    name: String,
    /// The node's manager
    #[arg(long, env = "NSM_CONNECT_TO", value_parser = written_address, default_value = MANAGER_SOCKET)]
    connect_to: String,
    /// What to connect to: `kernel://service/interface?label=value`; a list
    #[arg(long, env = "NSM_NETWORK_SERVICES", required = true)]
    network_services: String,
    /// The longest wait for one attempt
    #[arg(long, env = "NSM_REQUEST_TIMEOUT", default_value = "15s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    request_timeout: Duration,
    #[command(flatten)]
    #[serde(flatten)]
    check: Check,
    #[command(flatten)]
    #[serde(flatten)]
    place: Place,
}

impl Settings {
    /// Whose policies it needs.
    fn masks(&self) -> Masks<'_> {
        Masks {
            client: true,
            ..Masks::default()
        }
    }

    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        self.common.beginning(Profile::Client)
    }
}

struct Prepared {
    station: Station,
    client: Client,
    orders: Vec<Order>,
}

async fn prepare(role: &str, settings: &Settings) -> anyhow::Result<Prepared> {
    let orders = orders(settings)?;
    let station = Station::start(
        role,
        &settings.name,
        &settings.common,
        settings.masks(),
        settings,
    )
    .await?;
    let namespace = own_namespace()?;
    let orders = orders
        .into_iter()
        .map(|mut order| {
            for mechanism in &mut order.mechanisms {
                Kernel {
                    netns: Some(namespace.inode),
                    ..Kernel::default()
                }
                .write(mechanism);
            }
            order
        })
        .collect();
    let parts = Parts {
        journal: None,
        name: settings.name.clone(),
        secret: station.secret.clone(),
        tokens: Arc::new(station.tokens.clone()),
        transport: Arc::new(station.transport.clone()),
        manager: Target::Url(
            address(&settings.connect_to).map_err(|error| anyhow!("--connect-to: {error}"))?,
        ),
        roles: station.roles.clone(),
        namespace,
        table: station.table(),
        liveness: settings.check.liveness(),
        tasks: station.tasks.clone(),
    };
    let client = Client::new(&parts, settings.place.labels(), settings.request_timeout);
    Ok(Prepared {
        station,
        client,
        orders,
    })
}

/// One connection for each URL, with the ids that upstream's clients use: `<name>-<place>`.
fn orders(settings: &Settings) -> anyhow::Result<Vec<Order>> {
    let urls = NsUrl::parse_list(&settings.network_services).context("--network-services")?;
    let order = |(place, url): (usize, NsUrl)| {
        let (mechanism, service, labels) = url.into_request_parts();
        Order {
            id: format!("{}-{place}", settings.name),
            service,
            mechanisms: vec![mechanism],
            labels,
            ..Order::default()
        }
    };
    Ok(urls.into_iter().enumerate().map(order).collect())
}

/// Connects to all at once, and keeps them until it is told to end.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let Prepared {
        station,
        client,
        orders,
    } = prepare("client", &settings).await?;
    tracing::info!("Startup completed");
    let mut waiting = insist(&client, &orders);
    let mut sessions = Vec::new();
    let told = shutdown::requested();
    tokio::pin!(told);
    loop {
        tokio::select! {
            told = &mut told => { told?; break }
            Some(done) = waiting.join_next() => sessions.push(done?),
        }
    }
    waiting.shutdown().await;
    let done = close(&client, sessions, &orders).await;
    station.end().await;
    done
}

/// Connects to all at once, and ends: the connections stay for whoever takes them over.
pub(crate) async fn run_once(settings: Settings) -> anyhow::Result<()> {
    let Prepared {
        station,
        client,
        orders,
    } = prepare("init", &settings).await?;
    let mut waiting = insist(&client, &orders);
    let mut sessions = Vec::new();
    let told = shutdown::requested();
    tokio::pin!(told);
    while sessions.len() < orders.len() {
        tokio::select! {
            told = &mut told => {
                told?;
                waiting.shutdown().await;
                close(&client, sessions, &orders).await?;
                anyhow::bail!("told to end before all was connected");
            }
            Some(done) = waiting.join_next() => sessions.push(done?),
        }
    }
    station.end().await;
    Ok(())
}

fn insist(client: &Client, orders: &[Order]) -> JoinSet<Session> {
    let mut waiting = JoinSet::new();
    for order in orders {
        let (client, order) = (client.clone(), order.clone());
        waiting.spawn(async move {
            let began = tokio::time::Instant::now();
            let session = client.insist(&order).await;
            tell(&session, began.elapsed());
            session
        });
    }
    waiting
}

/// The line that people's scripts wait for.
fn tell(session: &Session, took: Duration) {
    let connection = session.connection();
    let ip = &connection.context.ip_context;
    tracing::info!(
        id = connection.id,
        service = connection.network_service,
        endpoint = connection.network_service_endpoint_name,
        interface = connection
            .mechanism
            .parameters
            .get("name")
            .map_or("", String::as_str),
        addresses = ip.src_ip_addrs.join(","),
        peers = ip.dst_ip_addrs.join(","),
        took_ms = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0,
        "successfully connected"
    );
}

/// Closes what was granted, and what may have been granted without our hearing of it.
async fn close(client: &Client, sessions: Vec<Session>, orders: &[Order]) -> anyhow::Result<()> {
    let mut closing = JoinSet::new();
    let granted: Vec<String> = sessions
        .iter()
        .map(|session| session.connection().id.clone())
        .collect();
    for session in sessions {
        closing.spawn(session.close());
    }
    for order in orders.iter().filter(|order| !granted.contains(&order.id)) {
        let (client, order) = (client.clone(), order.clone());
        closing.spawn(async move { client.abandon(&order).await });
    }
    let mut first = None;
    while let Some(closed) = closing.join_next().await {
        if let Err(error) = closed? {
            tracing::warn!(%error, "closing");
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), |error| Err(anyhow!(error)))
}
