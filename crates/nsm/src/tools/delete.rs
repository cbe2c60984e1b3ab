//! `nsm delete`: network services and endpoints go.

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::Registrar as _;

use super::{
    apply, manifest,
    operator::{Connect, Operator},
    output,
};

/// Settings of `nsm delete`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "nsm delete <service|endpoint> <NAME>...\n       nsm delete -f <FILE>")]
pub(crate) struct Settings {
    /// What goes
    #[arg(value_enum, required_unless_present = "file", requires = "names")]
    what: Option<What>,
    /// Its names
    #[arg(value_name = "NAME", conflicts_with = "file")]
    names: Vec<String>,
    /// The services of this YAML file go, `-` for standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    file: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

/// What can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A network service; its connections stay
    #[value(alias = "services", alias = "networkservice")]
    Service,
    /// An endpoint, until it registers again
    #[value(alias = "endpoints", alias = "nse")]
    Endpoint,
}

/// Runs `nsm delete`.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut names = settings.names.clone();
    for path in &settings.file {
        let services = manifest::read(path)?;
        names.extend(services.into_iter().map(|service| service.name));
    }
    let what = settings.what.unwrap_or(What::Service);
    let kind = match what {
        What::Service => "networkservice",
        What::Endpoint => "endpoint",
    };
    let operator = Operator::start(&settings.connect).await?;
    let mut failed = 0;
    for name in &names {
        let deleted = match what {
            What::Service => service(&operator, name).await,
            What::Endpoint => endpoint(&operator, name).await,
        };
        let name = output::clean(name);
        match deleted {
            Ok(()) => output::write(&format!("{kind}/{name} deleted"))?,
            Err(error) => {
                failed += 1;
                output::note(&format!("{kind}/{name}: {error:#}"));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} not deleted", names.len());
    }
    Ok(())
}

async fn service(operator: &Operator, name: &str) -> anyhow::Result<()> {
    let found = apply::find(operator, name)
        .await
        .map_err(|error| operator.refused(error))?;
    let service =
        found.ok_or_else(|| anyhow!("is not registered: `nsm get services` lists what is"))?;
    let deadline = operator.deadline();
    Ok(operator
        .directory()
        .unregister_service(service, deadline)
        .await?)
}

async fn endpoint(operator: &Operator, name: &str) -> anyhow::Result<()> {
    let all = super::get::all(operator).await?;
    let endpoint: NetworkServiceEndpoint = all
        .into_iter()
        .find(|one| one.name == name)
        .ok_or_else(|| anyhow!("is not registered: `nsm get endpoints` lists what is"))?;
    let deadline = operator.deadline();
    Ok(operator.directory().unregister(endpoint, deadline).await?)
}
