//! `nsm registry`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use nsm_confine::Profile;
use nsm_model::url::EndpointUrl;
use nsm_registry::{
    Config, Registry, SystemClock, chain,
    serve::serve,
    store::{Store, memory::MemoryStore, redb::RedbStore},
};
use nsm_rpc::Listener;
use serde::Serialize;

use crate::{
    begin::Beginning,
    policies::{Asked, Masks},
    sockets::Sockets,
    station::{Common, Station, address, seconds, written_address},
};

/// Settings of `nsm registry`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    sockets: Sockets,
    /// The hop's name
    #[arg(long, env = "NSM_NAME", default_value = "registry")]
    name: String,
    /// Where managers reach it: unix:///path, tcp://host:port; a list
    #[arg(
        long,
        env = "NSM_LISTEN_ON", value_parser = written_address,
        value_delimiter = ',',
        default_value = "tcp://:5002"
    )]
    listen_on: Vec<String>,
    /// `memory`, or the file that records are kept in
    #[arg(long, env = "NSM_STORE", default_value = "/var/lib/nsm/registry.redb")]
    store: PathBuf,
    /// The longest that an endpoint stays without being registered again
    #[arg(long, env = "NSM_EXPIRE_PERIOD", default_value = "1m", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    expire_period: Duration,
    #[command(flatten)]
    #[serde(flatten)]
    asked: Asked,
}

impl Settings {
    /// Whose policies it needs.
    fn masks(&self) -> Masks<'_> {
        Masks {
            asked: Some(&self.asked),
            ..Masks::default()
        }
    }

    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        self.common.beginning(Profile::Registry)
    }
}

/// Runs the registry.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let station = Station::start(
        "registry",
        &settings.name,
        &settings.common,
        settings.masks(),
        &settings,
    )
    .await?;
    let store: Arc<dyn Store> = if settings.store.as_os_str() == "memory" {
        Arc::new(MemoryStore::default())
    } else {
        if let Some(folder) = settings.store.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("--store {}", settings.store.display()))?;
        }
        Arc::new(
            RedbStore::open(&settings.store)
                .with_context(|| format!("--store {}", settings.store.display()))?,
        )
    };
    let registry = Registry::open(store, Arc::new(SystemClock), Config::default()).await?;
    let parts = chain::Parts {
        registry: registry.clone(),
        tokens: Arc::new(station.tokens.clone()),
        tasks: station.tasks.clone(),
        lifetime: settings.expire_period,
        roles: station.roles.clone(),
    };
    let addresses: Vec<EndpointUrl> = settings
        .listen_on
        .iter()
        .map(|text| address(text))
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::msg)?;
    let listener = Listener::bind_for(&addresses, &settings.sockets.access()?).await?;
    tracing::info!(addresses = ?listener.addresses(), "Startup completed");
    station
        .serve(listener, serve(station.server(), &parts))
        .await?;
    registry.shutdown(LAST_PATIENCE).await;
    Ok(())
}

/// How long the registry's own tasks may take to end.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
