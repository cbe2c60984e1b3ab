//! Who asks: an identity, and the way to the registry or to a manager.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use clap::Args;
use nsm_chain::{Code, Error, Expected, Target, Tasks};
use nsm_identity::client::{Workload, WorkloadError};
use nsm_model::{spiffe::SpiffeId, url::EndpointUrl};
use nsm_policy::roles::{Role, RoleSource};
use nsm_registry::remote::Remote;
use nsm_rpc::{Pool, TokenSource, Transport};
use tokio::time::Instant;

use crate::{
    logs,
    station::{address, registry_address, roles},
};

/// How long a tool insists on an identity: longer than an agent needs for a new entry, shorter than
/// a person waits without a word.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(1);

/// How a tool reaches the mesh.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connect {
    /// YAML file with settings; flags and environment override it
    #[arg(long, env = "NSM_CONFIG")]
    config: Option<PathBuf>,
    /// The registry: unix:///path, or tcp://host:port,host:port where several replicas serve
    #[arg(long, env = "NSM_REGISTRY_URL", default_value = "tcp://localhost:5002")]
    registry_url: String,
    /// A manager to ask in place of the registry: unix:///path or tcp://host:port; on its own node
    /// it shows the way to that node's forwarder and endpoints as well
    #[arg(long)]
    manager: Option<String>,
    /// Who may be registry, manager and operator: YAML file of SPIFFE ID patterns
    #[arg(long, env = "NSM_ROLES")]
    roles: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

/// How a tool tells forwarders from endpoints.
#[derive(Debug, Clone, Args)]
pub(crate) struct Forwarders {
    /// The service that forwarders register under
    #[arg(
        long,
        env = "NSM_FORWARDER_NETWORK_SERVICE_NAME",
        default_value = "forwarder"
    )]
    pub(crate) forwarder_network_service_name: String,
}

/// As whom a tool calls, and how long it waits.
#[derive(Debug, Clone, Args)]
pub(crate) struct Caller {
    /// The SPIFFE Workload API: SPIRE's agent, or `nsm ca`
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "unix:///run/spire/sockets/agent.sock"
    )]
    spiffe_endpoint_socket: String,
    /// The longest wait for an answer
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Tell on standard error what happens: TRACE, DEBUG, INFO, WARN or ERROR
    #[arg(long)]
    log_level: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Operator {
    /// Reaches every other role.
    pub(crate) transport: Transport,
    /// The manager that is asked in place of the registry.
    pub(crate) manager: Option<EndpointUrl>,
    registry: EndpointUrl,
    id: SpiffeId,
    roles: RoleSource,
    timeout: Duration,
    _workload: Workload,
}

impl Operator {
    /// Reads the settings, and waits for an identity.
    pub(crate) async fn start(connect: &Connect) -> anyhow::Result<Self> {
        let registry = registry_address(&connect.registry_url)
            .map_err(|error| anyhow!("--registry-url: {error}"))?;
        let manager = connect
            .manager
            .as_deref()
            .map(address)
            .transpose()
            .map_err(|error| anyhow!("--manager: {error}"))?;
        let caller = &connect.caller;
        let (transport, workload) = caller.connect().await?;
        let id = workload.source().current().id().clone();
        let roles = roles(connect.roles.as_deref(), &id.trust_domain())?;
        Ok(Self {
            transport,
            manager,
            registry,
            id,
            roles,
            timeout: caller.timeout,
            _workload: workload,
        })
    }

    /// The registry, or the manager that is asked in its place.
    pub(crate) fn directory(&self) -> Remote {
        let target = self.manager.as_ref().unwrap_or(&self.registry);
        let expected = Expected::role(&self.roles, &[Role::Registry, Role::Manager]);
        let way = self.transport.clone().expecting(expected);
        Remote::new(way, Target::Url(target.clone()))
    }

    /// Why the directory could not be asked, with the setting that leads there.
    pub(crate) fn refused(&self, error: Error) -> anyhow::Error {
        let (who, setting, url) = match &self.manager {
            Some(url) => ("manager", "--manager", url),
            None => ("registry", "--registry-url", &self.registry),
        };
        if error.code == Code::Unimplemented {
            return anyhow!(
                "asking the {who} ({setting}): {url} does not offer this: does another role listen there?"
            );
        }
        anyhow::Error::new(error).context(format!("asking the {who} ({setting})"))
    }

    /// When a call that begins now ends at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// As whom we call.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Who plays which role.
    pub(crate) fn roles(&self) -> &RoleSource {
        &self.roles
    }

    /// Whether managers show this caller every connection.
    pub(crate) fn sees_all(&self) -> bool {
        self.roles.current().holds(Role::Operator, &self.id)
    }
}

impl Caller {
    /// An identity, and what calls with it. The identity is followed for as long as it is held.
    pub(crate) async fn connect(&self) -> anyhow::Result<(Transport, Workload)> {
        if let Some(level) = &self.log_level {
            logs::start(level, logs::Format::Text)?;
        }
        let patience = IDENTITY_PATIENCE.min(self.timeout);
        let connected = Workload::connect(&self.spiffe_endpoint_socket, patience).await;
        let workload = connected.map_err(|error| {
            // How long it was tried helps nobody who stands before it.
            if let WorkloadError::Startup { last, .. } = error {
                *last
            } else {
                error
            }
        })?;
        let source = workload.source();
        let pool = Pool::new(source.clone(), Tasks::new());
        let transport = Transport::new(pool, TokenSource::new(source));
        Ok((transport, workload))
    }

    /// When a call that begins now ends at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }
}
