//! `nsm demo`: a mesh of two nodes on this machine, and its story.

use std::time::Duration;

use anyhow::Context as _;
use nsm_lab::{
    Config, Lab, Run,
    measure::ping,
    mesh::{Mesh, MeshConfig},
};

pub(crate) fn run() -> anyhow::Result<()> {
    let lab = Lab::new(&Config::default()).context("preparing the lab")?;
    let result = story(&lab);
    if result.is_err() {
        let _ = std::process::Command::new("cp")
            .arg("-r")
            .arg(lab.logs())
            .arg("/tmp/last-logs")
            .status();
    }
    lab.down();
    result
}

fn story(lab: &Lab) -> anyhow::Result<()> {
    let begin = std::time::Instant::now();
    let mesh = Mesh::up(lab, &["node-1", "node-2"], MeshConfig::default())?;
    eprintln!("mesh up in {:?}", begin.elapsed());
    for (at, name) in [(0, "local"), (1, "remote")] {
        let service = format!("svc-{name}");
        let _nse = mesh.run(
            mesh.node(at),
            &format!("nse-{name}"),
            Run::nsm(["endpoint"])
                .env("NSM_SERVICE_NAMES", &service)
                .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
                .env("NSM_CIDR_PREFIX", "172.16.1.0/24"),
            "Startup completed",
        )?;
        let begin = std::time::Instant::now();
        let client = mesh.run(
            mesh.node(0),
            &format!("nsc-{name}"),
            Run::nsm(["client"]).env("NSM_NETWORK_SERVICES", format!("kernel://{service}/nsm-1")),
            "successfully connected",
        )?;
        eprintln!("{name}: client connected after {:?}", begin.elapsed());
        let report = ping(
            client.pod.cell(),
            "172.16.1.0".parse()?,
            5,
            Duration::from_millis(20),
        )?;
        eprintln!("{report:?}");
        client.process.stop(Duration::from_secs(5));
        eprintln!(
            "{}",
            std::fs::read_to_string(&client.log)?
                .lines()
                .last()
                .unwrap_or_default()
        );
    }
    Ok(())
}
