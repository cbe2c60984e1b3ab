//! `nsm ca`: the built-in authority.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use nsm_confine::Profile;
use nsm_identity::ca::{
    AuthorityServer, EntrySource, JoinConfig, JoinToken, Node, Root, WorkloadServer,
};
use nsm_model::spiffe::TrustDomain;
use serde::Serialize;

use crate::{
    begin::{Beginning, Filter},
    logs, shutdown,
    sockets::Sockets,
    station::seconds,
};

/// Settings of `nsm ca`. Without --authority it is the root and this node's agent in one.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    /// YAML file with settings; flags and environment override it
    #[arg(long, env = "NSM_CONFIG")]
    config: Option<PathBuf>,
    /// TRACE, DEBUG, INFO, WARN or ERROR
    #[arg(long, env = "NSM_LOG_LEVEL", default_value = "INFO")]
    log_level: String,
    /// How log lines are written
    #[arg(long, env = "NSM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: logs::Format,
    /// The trust domain that the root signs for
    #[arg(long, env = "NSM_TRUST_DOMAIN", default_value = "nsm.local")]
    trust_domain: String,
    /// Where keys are kept (mode 0700)
    #[arg(long, env = "NSM_CA_DIR", default_value = "/var/lib/nsm/ca")]
    dir: PathBuf,
    /// This node's name
    #[arg(long, env = "NODE_NAME", default_value = "node")]
    node: String,
    /// Which process gets which SPIFFE ID: YAML, read again when it changes
    #[arg(long, env = "NSM_CA_ENTRIES", default_value = "/etc/nsm/entries.yaml")]
    entries: PathBuf,
    /// The unix socket of the Workload API
    #[arg(
        long,
        env = "NSM_CA_SOCKET",
        default_value = "/run/spire/sockets/agent.sock"
    )]
    socket: PathBuf,
    /// How long an SVID lives; it is renewed at half of it
    #[arg(long, env = "NSM_CA_SVID_LIFETIME", default_value = "1h", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    svid_lifetime: Duration,
    /// As the root: the TCP address at which other nodes join
    #[arg(long, env = "NSM_CA_LISTEN_ON")]
    listen_on: Option<SocketAddr>,
    /// As a node's agent: the root's address
    #[arg(long, env = "NSM_CA_AUTHORITY")]
    authority: Option<SocketAddr>,
    /// As a node's agent: the token that it joins with, the first time
    #[arg(long, env = "NSM_CA_JOIN_TOKEN", hide_env_values = true)]
    #[serde(skip)]
    join_token: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    sockets: Sockets,
    /// Allow only the system calls that a role needs; `off` is for debugging
    #[arg(long, env = "NSM_SECCOMP", value_enum, default_value = "on")]
    seccomp: Filter,
    #[command(subcommand)]
    #[serde(skip)]
    task: Option<Task>,
}

impl Settings {
    /// What the role begins with.
    pub(crate) fn beginning(&self) -> Beginning<'_> {
        Beginning {
            profile: Profile::Agent,
            log_level: &self.log_level,
            log_format: self.log_format,
            seccomp: self.seccomp,
        }
    }
}

/// What the root does besides running.
#[derive(Debug, Clone, Subcommand)]
enum Task {
    /// Print a join token for a node, good once and for an hour
    Token {
        /// The node's name
        node: String,
    },
}

/// Runs the authority, or this node's agent of one.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    if let Some(Task::Token { node }) = &settings.task {
        let root = open_root(&settings)?;
        let token = root.create_join_token(node)?;
        return print(&token.reveal());
    }
    tracing::info!(settings = serde_json::to_string(&settings)?, "starting");
    let mut authority = None;
    let node = match settings.authority {
        Some(address) => Node::join(join(&settings, address)?).await?,
        None => {
            let root = Arc::new(open_root(&settings)?);
            if let Some(address) = settings.listen_on {
                authority = Some(AuthorityServer::serve(Arc::clone(&root), address).await?);
            }
            Node::local(root, &settings.node)?
        }
    };
    let entries = EntrySource::file(&settings.entries, &node.trust_domain())
        .with_context(|| format!("--entries {}", settings.entries.display()))?;
    let serving = WorkloadServer::serve_for(
        Arc::new(node),
        entries,
        &settings.socket,
        &settings.sockets.access()?,
        settings.svid_lifetime,
    )?;
    tracing::info!("Startup completed");
    shutdown::requested().await?;
    drop((serving, authority));
    Ok(())
}

fn open_root(settings: &Settings) -> anyhow::Result<Root> {
    let domain: TrustDomain = settings
        .trust_domain
        .parse()
        .with_context(|| format!("--trust-domain {:?}", settings.trust_domain))?;
    Root::open(&settings.dir, domain).with_context(|| format!("--dir {}", settings.dir.display()))
}

fn join(settings: &Settings, authority: SocketAddr) -> anyhow::Result<JoinConfig> {
    let token = settings
        .join_token
        .as_deref()
        .map(str::parse::<JoinToken>)
        .transpose()
        .context("--join-token")?;
    Ok(JoinConfig {
        node: settings.node.clone(),
        directory: settings.dir.clone(),
        authority,
        bundle: None,
        token,
    })
}

/// The one thing that goes to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").context("standard output")
}
