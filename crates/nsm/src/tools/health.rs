//! `nsm health`: whether a role serves, for probes.

use std::net::IpAddr;

use anyhow::{Context as _, anyhow};
use clap::Args;
use nsm_chain::Target;
use nsm_model::url::EndpointUrl;

use super::{operator::Caller, output};
use crate::{roles::MANAGER_SOCKET, station::address};

/// Settings of `nsm health`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "nsm health [ADDRESS] [OPTIONS]")]
pub(crate) struct Settings {
    /// Where the role listens: unix:///path or tcp://host:port; of a list the first
    #[arg(env = "NSM_LISTEN_ON", default_value = MANAGER_SOCKET)]
    address: String,
    /// The gRPC service to ask about, such as networkservice.NetworkService; else the whole process
    #[arg(long, default_value = "")]
    service: String,
    #[command(flatten)]
    caller: Caller,
}

/// Runs `nsm health`.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let first = settings.address.split(',').next().unwrap_or_default();
    let url = local(address(first).map_err(|error| anyhow!("ADDRESS: {error}"))?);
    let (transport, _workload) = settings.caller.connect().await?;
    let deadline = settings.caller.deadline();
    let hop = transport.hop(&Target::Url(url.clone()), deadline).await?;
    nsm_rpc::health::check(&hop.peer, &settings.service, deadline)
        .await
        .with_context(|| format!("asking {url} about service {:?}", settings.service))?;
    output::write(&format!("{url} serves as {}", hop.peer.peer().id))
}

/// An address that listens to all is reached on this machine.
fn local(url: EndpointUrl) -> EndpointUrl {
    match url {
        EndpointUrl::Tcp { host, port }
            if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) =>
        {
            let host = "localhost".to_owned();
            EndpointUrl::Tcp { host, port }
        }
        url @ (EndpointUrl::Tcp { .. }
        | EndpointUrl::Unix(_)
        | EndpointUrl::Inode(_)
        | EndpointUrl::Other(_)) => url,
    }
}
