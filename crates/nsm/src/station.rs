//! What every role stands on: an identity, a pool, tokens, a table, an owner of tasks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use nsm_chain::{Tasks, elements::Table};
use nsm_confine::Profile;
use nsm_identity::{IdentitySource, client::Workload};
use nsm_model::{ids::Secret, spiffe::SpiffeId, url::EndpointUrl};
use nsm_rpc::{Listener, Pool, Server, TokenSource, Transport, monitor};
use nsm_sdk::Registration;
use serde::Serialize;

use crate::{
    begin::{Beginning, Filter},
    logs::Format,
    secret,
};

/// How long tasks may take to end with their role.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Settings of every role.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Common {
    /// YAML file with settings; flags and environment override it
    #[arg(long, env = "NSM_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// TRACE, DEBUG, INFO, WARN or ERROR
    #[arg(long, env = "NSM_LOG_LEVEL", default_value = "INFO")]
    pub(crate) log_level: String,
    /// How log lines are written
    #[arg(long, env = "NSM_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: Format,
    /// The SPIFFE Workload API: SPIRE's agent, or `nsm ca`
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "unix:///run/spire/sockets/agent.sock"
    )]
    pub(crate) spiffe_endpoint_socket: String,
    /// How long to wait for an identity at start
    #[arg(long, env = "NSM_IDENTITY_TIMEOUT", default_value = "60s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    pub(crate) identity_timeout: Duration,
    /// The longest wait for a connection to a peer, 3 s at the most
    #[arg(long, env = "NSM_DIAL_TIMEOUT", default_value = "3s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    pub(crate) dial_timeout: Duration,
    /// The longest life of a token that this process makes
    #[arg(long, env = "NSM_MAX_TOKEN_LIFETIME", default_value = "10m", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    pub(crate) max_token_lifetime: Duration,
    /// Where the secret that ids are derived with is kept; without it ids change at a restart
    #[arg(long, env = "NSM_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Allow only the system calls that a role needs; `off` is for debugging
    #[arg(long, env = "NSM_SECCOMP", value_enum, default_value = "on")]
    pub(crate) seccomp: Filter,
}

impl Common {
    /// What a role of this kind begins with.
    pub(crate) fn beginning(&self, profile: Profile) -> Beginning<'_> {
        Beginning {
            profile,
            log_level: &self.log_level,
            log_format: self.log_format,
            seccomp: self.seccomp,
        }
    }
}

/// Durations as people write them.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&humantime::format_duration(*duration).to_string())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) secret: Secret,
    pub(crate) tokens: TokenSource,
    pub(crate) transport: Transport,
    pub(crate) pool: Pool,
    pub(crate) table: monitor::Connections,
    pub(crate) tasks: Tasks,
    pub(crate) source: IdentitySource,
    _workload: Workload,
}

impl Station {
    /// Prints the settings, and waits for an identity.
    pub(crate) async fn start(
        role: &str,
        name: &str,
        common: &Common,
        settings: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let shown = serde_json::to_string(settings).context("printing the settings")?;
        tracing::info!(
            role,
            name,
            version = env!("CARGO_PKG_VERSION"),
            settings = shown,
            "starting"
        );
        let workload = Workload::connect(&common.spiffe_endpoint_socket, common.identity_timeout)
            .await
            .context("no identity: is the agent up, and does it have an entry for this process?")?;
        let source = workload.source();
        let tasks = Tasks::new();
        let tokens = TokenSource::with_lifetime(source.clone(), common.max_token_lifetime);
        let pool = Pool::new(source.clone(), tasks.clone());
        Ok(Self {
            secret: secret::secret(common.state_dir.as_deref(), name)?,
            transport: Transport::new(pool.clone(), tokens.clone())
                .with_dial_timeout(common.dial_timeout),
            tokens,
            pool,
            table: monitor::Connections::new(),
            tasks,
            source,
            _workload: workload,
        })
    }

    /// The table, as elements know it.
    pub(crate) fn table(&self) -> Arc<dyn Table> {
        Arc::new(self.table.clone())
    }

    /// Whether a SPIFFE ID of our own trust domain holds a role, by the paths that may.
    pub(crate) fn holds(&self, paths: &[String]) -> Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync> {
        let (own, paths) = (self.source.current().id().trust_domain(), paths.to_vec());
        Arc::new(move |id| {
            let held = |path: &String| {
                let rest = id.path().strip_prefix(path.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
            };
            id.member_of(&own) && paths.iter().any(held)
        })
    }

    /// A server that shows its connections to whoever made them, to the hops that carry them, and
    /// to operators.
    pub(crate) fn server(&self) -> Server {
        let own = self.source.current().id().clone();
        Server::new().monitor(monitor::Service::new(
            self.table.clone(),
            move |caller, connection| visible(&own, caller, connection),
        ))
    }

    /// Serves until the process is told to end, then lets what runs finish.
    pub(crate) async fn serve(&self, listener: Listener, server: Server) -> anyhow::Result<()> {
        let routes = server.routes().await;
        let ended = async {
            let _told = crate::shutdown::requested().await;
        };
        listener.serve(routes, &self.source, ended).await?;
        self.end().await;
        Ok(())
    }

    /// Serves as something that is registered: ready when it is, and taken back before the server
    /// ends, so that nobody is sent here any more.
    pub(crate) async fn serve_registered(
        &self,
        listener: Listener,
        server: Server,
        registration: Registration,
    ) -> anyhow::Result<()> {
        let registered = registration.registered();
        self.tasks.spawn(async move {
            if registered.await.is_ok() {
                tracing::info!("Startup completed");
            }
        });
        let routes = server.routes().await;
        let ended = async {
            let _told = crate::shutdown::requested().await;
            if let Err(error) = registration.withdraw().await {
                tracing::warn!(%error, "unregistering");
            }
        };
        listener.serve(routes, &self.source, ended).await?;
        self.end().await;
        Ok(())
    }

    /// Ends what runs in the background.
    pub(crate) async fn end(&self) {
        self.tasks.shutdown(LAST_PATIENCE).await;
    }
}

/// The path below which operators' SPIFFE IDs are: they see every connection.
pub(crate) const OPERATORS: &str = "/operator";

/// Whether a path is this one, or lies below it.
fn below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who may see a connection: an operator of our trust domain, and every hop of its path.
fn visible(
    own: &SpiffeId,
    caller: &SpiffeId,
    connection: &nsm_api::connection::Connection,
) -> bool {
    if caller.member_of(&own.trust_domain()) && below(caller.path(), OPERATORS) {
        return true;
    }
    connection.path.path_segments.iter().any(|segment| {
        nsm_identity::token::decode_unverified(&segment.token).is_ok_and(|claims| {
            claims.sub == caller.as_str() || claims.aud.iter().any(|aud| aud == caller.as_str())
        })
    })
}

/// Reads addresses: `unix:///path`, `tcp://host:port`; `tcp://:port` listens on every address.
pub(crate) fn address(text: &str) -> Result<EndpointUrl, String> {
    let text = match text.strip_prefix("tcp://:") {
        Some(port) => format!("tcp://[::]:{port}"),
        None if !text.contains("://") => format!("tcp://{text}"),
        None => text.to_owned(),
    };
    match EndpointUrl::parse(&text) {
        EndpointUrl::Other(_) | EndpointUrl::Inode(_) => Err(format!(
            "{text:?} is no address: write unix:///path or tcp://host:port"
        )),
        url @ (EndpointUrl::Tcp { .. } | EndpointUrl::Unix(_)) => Ok(url),
    }
}

/// A setting that is an address: looked at when it is read, kept as it is written.
pub(crate) fn written_address(text: &str) -> Result<String, String> {
    address(text).map(|_| text.to_owned())
}
