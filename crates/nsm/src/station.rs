//! What every role stands on: an identity, a pool, tokens, a table, an owner of tasks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use nsm_chain::{Expected, Tasks, elements::Table};
use nsm_confine::Profile;
use nsm_identity::{IdentitySource, client::Workload};
use nsm_model::{ids::Secret, spiffe::TrustDomain, url::EndpointUrl};
use nsm_policy::{
    denial::Counts,
    roles::{Role, RoleSource},
};
use nsm_rpc::{Listener, Pool, Server, TokenSource, Transport, monitor};
use nsm_sdk::Registration;
use serde::Serialize;

use crate::{
    begin::{Beginning, Filter},
    logs::Format,
    policies::{self, Masks},
    secret,
};

/// How long tasks may take to end with their role.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// How often a roles file is looked at.
const ROLES_EVERY: Duration = Duration::from_secs(2);
/// How often what was denied is summed up, where there was something.
const DENIALS_EVERY: Duration = Duration::from_secs(60);

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
    /// Where journal and the secret of ids are kept; without it a restart begins with nothing
    #[arg(long, env = "NSM_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Allow only the system calls that a role needs; `off` is for debugging
    #[arg(long, env = "NSM_SECCOMP", value_enum, default_value = "on")]
    pub(crate) seccomp: Filter,
    /// Who may be what: YAML file of SPIFFE ID patterns, read again when it changes
    #[arg(long, env = "NSM_ROLES")]
    pub(crate) roles: Option<PathBuf>,
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
    pub(crate) table: monitor::Connections,
    pub(crate) tasks: Tasks,
    pub(crate) source: IdentitySource,
    pub(crate) roles: RoleSource,
    _workload: Workload,
}

impl Station {
    /// Prints the settings, reads the policies that `masks` name, and waits for an identity.
    pub(crate) async fn start(
        role: &str,
        name: &str,
        common: &Common,
        masks: Masks<'_>,
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
        let policies = Arc::new(masks.load()?);
        let workload = Workload::connect(&common.spiffe_endpoint_socket, common.identity_timeout)
            .await
            .context("no identity: is the agent up, and does it have an entry for this process?")?;
        let source = workload.source();
        let tasks = Tasks::new();
        policies::follow(&policies, &tasks);
        let tokens = TokenSource::with_lifetime(source.clone(), common.max_token_lifetime)
            .with_policies(policies);
        let pool = Pool::new(source.clone(), tasks.clone());
        let roles = roles(
            common.roles.as_deref(),
            &source.current().id().trust_domain(),
        )?;
        tasks.spawn(follow(roles.clone()));
        tasks.spawn(sum_up());
        Ok(Self {
            secret: secret::secret(common.state_dir.as_deref(), name)?,
            transport: Transport::new(pool, tokens.clone()).with_dial_timeout(common.dial_timeout),
            tokens,
            roles,
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

    /// The way to peers that hold this role: nothing is sent to anybody else.
    pub(crate) fn to(&self, wanted: &'static [Role]) -> Transport {
        let expected = Expected::role(&self.roles, wanted);
        self.transport.clone().expecting(expected)
    }

    /// A server that shows its connections to whoever made them, to the hop that brought them
    /// here, and to operators.
    pub(crate) fn server(&self) -> Server {
        let roles = self.roles.clone();
        Server::new().monitor(monitor::Service::new(self.table.clone(), move |caller| {
            roles.current().holds(Role::Operator, caller)
        }))
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

/// The roles in force: a file's, or the standard ones.
pub(crate) fn roles(file: Option<&Path>, own: &TrustDomain) -> anyhow::Result<RoleSource> {
    match file {
        Some(path) => RoleSource::file(path, own).context("--roles"),
        None => Ok(RoleSource::standard(own)),
    }
}

/// Reads the roles file again when it has changed.
async fn follow(roles: RoleSource) {
    while roles.follows_a_file() {
        tokio::time::sleep(ROLES_EVERY).await;
        match roles.refresh() {
            Ok(true) => tracing::info!("the roles file has changed: its roles are in force"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the changed roles file is refused: the roles before stay in force");
            }
        }
    }
}

/// Sums up what was denied, for whoever counts rather than reads.
async fn sum_up() {
    let mut told = Counts::default();
    loop {
        tokio::time::sleep(DENIALS_EVERY).await;
        let now = Counts::now();
        if now != told {
            now.log();
            told = now;
        }
    }
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

/// The registry's address, or those of several: any of them will do.
pub(crate) fn registry_address(text: &str) -> Result<EndpointUrl, String> {
    let url = EndpointUrl::parse(text);
    if nsm_rpc::several::is_list(&url) {
        return Ok(url);
    }
    address(text).map_err(|error| format!("{error}, or tcp://host:port,host:port"))
}

/// The same as a setting.
pub(crate) fn written_registry_address(text: &str) -> Result<String, String> {
    registry_address(text).map(|_| text.to_owned())
}

/// A setting that is an address: looked at when it is read, kept as it is written.
pub(crate) fn written_address(text: &str) -> Result<String, String> {
    address(text).map(|_| text.to_owned())
}
