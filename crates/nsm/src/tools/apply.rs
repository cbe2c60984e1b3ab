//! `nsm apply`: network services shall be as files say.

use anyhow::bail;
use clap::Args;
use nsm_api::registry::NetworkService;
use nsm_chain::{Error, Registrar as _};

use super::{
    manifest,
    operator::{Connect, Operator},
    output,
};

/// Settings of `nsm apply`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "nsm apply -f <FILE>... [OPTIONS]")]
pub(crate) struct Settings {
    /// YAML file of network services, `-` for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Runs `nsm apply`: all files are read before anything is changed.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut services = Vec::new();
    for path in &settings.file {
        services.extend(manifest::read(path)?);
    }
    let operator = Operator::start(&settings.connect).await?;
    let mut failed = 0;
    for service in &services {
        let name = output::clean(&service.name);
        match apply(&operator, service).await {
            Ok(done) => output::write(&format!("networkservice/{name} {done}"))?,
            Err(error) => {
                failed += 1;
                output::note(&format!("networkservice/{name}: {error:#}"));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} services not applied", services.len());
    }
    Ok(())
}

/// What was done.
async fn apply(operator: &Operator, service: &NetworkService) -> anyhow::Result<&'static str> {
    let current = find(operator, &service.name)
        .await
        .map_err(|error| operator.refused(error))?;
    if current
        .as_ref()
        .is_some_and(|current| same(service, current))
    {
        return Ok("unchanged");
    }
    let registered = operator
        .directory()
        .register_service(service.clone(), operator.deadline())
        .await?;
    if !same(service, &registered) {
        // A service without matches is what endpoints register: it never takes matches away.
        bail!(
            "the registry keeps the service as it is ({} matches): `nsm delete service {}` first",
            registered.matches.len(),
            service.name
        );
    }
    Ok(match current {
        Some(_) => "configured",
        None => "created",
    })
}

/// The service of this very name.
pub(super) async fn find(operator: &Operator, name: &str) -> Result<Option<NetworkService>, Error> {
    let found = operator
        .directory()
        .services(name, operator.deadline())
        .await?;
    Ok(found.into_iter().find(|service| service.name == name))
}

/// Whether a registered service is what a file says; who registered it does not matter, nor the
/// payload where the file leaves it to the registry.
fn same(file: &NetworkService, registered: &NetworkService) -> bool {
    file.matches == registered.matches
        && (file.payload.is_empty() || file.payload == registered.payload)
}
