//! `nsm registry`.

use std::{sync::Arc, time::Duration};

use clap::Args;
use nsm_confine::Profile;
use nsm_model::url::EndpointUrl;
use nsm_registry::{chain, serve::serve};
use nsm_rpc::Listener;
use serde::Serialize;

use crate::{
    begin::Beginning,
    policies::{Asked, Masks},
    sockets::Sockets,
    station::{Common, Station, address, seconds, written_address},
};

mod backing;

use backing::Backing;

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
    #[command(flatten)]
    #[serde(flatten)]
    backing: Backing,
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
    let registry = tokio::select! {
        biased;
        told = crate::shutdown::requested() => return told,
        registry = settings.backing.open() => registry?,
    };
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
