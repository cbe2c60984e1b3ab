//! An operator's own policies: the settings that name their files, and the look at them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use nsm_chain::Tasks;
use nsm_policy::custom::{Custom, Policies, RUN};
use serde::Serialize;

/// How long a changed file waits until it is in force. Looking costs a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Connections that we are asked for: upstream's servers have no setting for it.
const SERVER: [&str; 2] = ["etc/nsm/opa/common/.*.rego", "etc/nsm/opa/server/.*.rego"];
/// Connections that we ask for.
const CLIENT: [&str; 2] = ["etc/nsm/opa/common/.*.rego", "etc/nsm/opa/client/.*.rego"];

/// The setting of a role that is asked to register.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Asked {
    /// Policies in Rego for registrations that it is asked for: files, or regular expressions
    #[arg(
        long,
        env = "NSM_REGISTRY_SERVER_POLICIES",
        value_delimiter = ',',
        default_values = [
            "etc/nsm/opa/common/.*.rego",
            "etc/nsm/opa/registry/.*.rego",
            "etc/nsm/opa/server/.*.rego",
        ]
    )]
    pub(crate) registry_server_policies: Vec<String>,
}

/// The setting of a role that registers.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Asks {
    /// Policies in Rego for what its registrations are answered: files, or regular expressions
    #[arg(
        long,
        env = "NSM_REGISTRY_CLIENT_POLICIES",
        value_delimiter = ',',
        default_values = [
            "etc/nsm/opa/common/.*.rego",
            "etc/nsm/opa/registry/.*.rego",
            "etc/nsm/opa/client/.*.rego",
        ]
    )]
    pub(crate) registry_client_policies: Vec<String>,
}

/// What a role is asked and asks, so which policies it needs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Masks<'a> {
    /// It is asked for connections.
    pub(crate) server: bool,
    /// It asks for connections.
    pub(crate) client: bool,
    /// It is asked for registrations.
    pub(crate) asked: Option<&'a Asked>,
    /// It asks for registrations.
    pub(crate) asks: Option<&'a Asks>,
}

impl Masks<'_> {
    /// The policies of the files that they name.
    pub(crate) fn load(&self) -> anyhow::Result<Custom> {
        // Gone, or not for us to see: then nothing is in it.
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let load = |setting: &str, masks: &[String]| {
            let masks: Vec<String> = masks
                .iter()
                .filter(|mask| !mask.is_empty())
                .cloned()
                .collect();
            Policies::load(setting, &masks, &folder).context("an operator's policies")
        };
        let fixed = |wanted: bool, masks: [&str; 2]| {
            if wanted {
                load(
                    "the folder of connections' policies",
                    &masks.map(str::to_owned),
                )
            } else {
                Ok(Policies::default())
            }
        };
        let asked = self
            .asked
            .map(|asked| asked.registry_server_policies.as_slice());
        let asks = self
            .asks
            .map(|asks| asks.registry_client_policies.as_slice());
        Ok(Custom {
            server: fixed(self.server, SERVER)?,
            client: fixed(self.client, CLIENT)?,
            registry_server: load("NSM_REGISTRY_SERVER_POLICIES", asked.unwrap_or_default())?,
            registry_client: load("NSM_REGISTRY_CLIENT_POLICIES", asks.unwrap_or_default())?,
        })
    }
}

/// Looks at the files again and again, for as long as the tasks live.
pub(crate) fn follow(policies: &Arc<Custom>, tasks: &Tasks) {
    if !RUN {
        return;
    }
    let policies = Arc::clone(policies);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let look = Arc::clone(&policies);
            if let Err(error) = tokio::task::spawn_blocking(move || look.reload()).await {
                tracing::error!(%error, "looking at policies again");
            }
        }
    });
}
