//! Three nodes, four services with two endpoints each (one behind a function), sixty clients.

use std::collections::BTreeMap;

use anyhow::Context as _;
use nsm_lab::{
    Cell, SOCKET_FOLDER,
    measure::{Counted, Crowd},
    mesh::Workload,
};
use serde::Serialize;

use super::options::Options;
use crate::town::{CONNECTED, GRACE, Service, Town, client};

pub(crate) const NODES: usize = 3;
/// Labels of a client that goes through the function, and of its stations.
const THROUGH: &str = "?app=client";
/// The service that is edited while it is used.
pub(crate) const EDITED: usize = 0;
/// The service with a function in between.
const CHAINED: usize = 3;

/// Where an endpoint stands: name, service, node, labels, whether connections go on through it.
type Site = (&'static str, usize, usize, &'static str, bool);

const SITES: &[Site] = &[
    ("alpha-1", 0, 0, "color:blue", false),
    ("alpha-2", 0, 1, "color:green", false),
    ("beta-1", 1, 1, "", false),
    ("beta-2", 1, 2, "", false),
    ("gamma-1", 2, 2, "", false),
    ("gamma-2", 2, 0, "", false),
    ("gate-1", CHAINED, 0, "app:gate", false),
    ("gate-2", CHAINED, 2, "app:gate", false),
    ("wall-1", CHAINED, 1, "app:wall", true),
    ("wall-2", CHAINED, 2, "app:wall", true),
];

/// See the module.
pub(crate) struct City {
    pub town: Town,
    pub crowd: Crowd,
    pub clients: BTreeMap<String, Resident>,
    /// In the order of [`SITES`].
    pub endpoints: Vec<Workload>,
    services: Vec<Service>,
    tools: Cell,
    gone: Vec<Life>,
}

/// A client in its pod.
pub(crate) struct Resident {
    pub workload: Workload,
    /// Its place among all: service and node follow from it.
    pub place: usize,
}

/// What became of a client's flow from its beginning to its end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Life {
    pub client: String,
    pub place: usize,
    pub service: String,
    pub node: String,
    pub end_ms: f64,
    #[serde(flatten)]
    pub counted: Counted,
}

impl City {
    /// Mesh and endpoints, no client.
    pub(crate) fn up(options: &Options) -> anyhow::Result<Self> {
        let town = Town::up(NODES, Some(options.lease))?;
        let tools = town.tools()?;
        let names = ["alpha", "beta", "gamma", "chain"];
        let services = (1..).zip(names).map(|(n, name)| Service::new(name, n));
        let mut city = Self {
            crowd: Crowd::start(options.interval)?,
            clients: BTreeMap::new(),
            endpoints: Vec::new(),
            services: services.collect(),
            town,
            tools,
            gone: Vec::new(),
        };
        city.apply(&chain())?;
        for site in 0..SITES.len() {
            let endpoint = city.build(site)?;
            city.endpoints.push(endpoint);
        }
        Ok(city)
    }

    /// Starts the endpoint of a site.
    pub(crate) fn build(&self, site: usize) -> anyhow::Result<Workload> {
        let (name, service, node, labels, through) = SITES[site];
        let mut env = vec![("NSM_LABELS", labels)];
        if service == CHAINED {
            env.push(("NSM_REGISTER_SERVICE", "false"));
        }
        if through {
            env.push(("NSM_PASSTHROUGH", "true"));
        }
        self.town
            .endpoint(node, name, &self.services[service], &env)
            .with_context(|| format!("endpoint {name}"))
    }

    /// The endpoint of a site.
    pub(crate) fn site(&self, site: usize) -> &'static str {
        SITES[site].0
    }

    /// The client of a place moves in, under a name of its own.
    pub(crate) fn settle(&mut self, place: usize, name: &str) -> anyhow::Result<()> {
        let (service, node) = self.address(place);
        let (service, labels) = (self.services[service].clone(), self.labels(place));
        let workload = self
            .town
            .client(node, name, &service, labels)
            .with_context(|| format!("client {name}"))?;
        self.crowd
            .join(name, workload.pod.cell(), service.address())?;
        let resident = Resident { workload, place };
        self.clients.insert(name.to_owned(), resident);
        Ok(())
    }

    /// A client whose process was killed is started again where it was.
    pub(crate) fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        let resident = self.clients.get(name).context("no such client")?;
        let (service, _) = self.address(resident.place);
        let run = client(&self.services[service], self.labels(resident.place));
        let pod = resident.workload.pod.clone();
        let workload = self.town.mesh.run_in(pod, run, CONNECTED)?;
        if let Some(resident) = self.clients.get_mut(name) {
            resident.workload = workload;
        }
        Ok(())
    }

    /// A client goes: in good order, or its namespaces are just gone.
    pub(crate) fn leave(&mut self, name: &str, in_order: bool) {
        if let Some(resident) = self.clients.remove(name) {
            let place = resident.place;
            let (service, node) = self.address(place);
            let counted = self.crowd.leave(name).unwrap_or_default();
            self.gone.push(Life {
                client: name.to_owned(),
                place,
                service: self.services[service].name.clone(),
                node: self.town.mesh.node(node).node().name().to_owned(),
                end_ms: self.crowd.now_ms(),
                counted,
            });
            if in_order {
                let _exit = resident.workload.process.stop(GRACE);
            }
            resident.workload.pod.kill();
        }
    }

    /// Everybody leaves; what became of all flows.
    pub(crate) fn empty(&mut self) -> Vec<Life> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            self.leave(&name, true);
        }
        std::mem::take(&mut self.gone)
    }

    /// Makes the registry's services as this manifest says, as an operator.
    pub(crate) fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        // Where the tools' cell sees it.
        let folder = self.town.mesh.node(0).node().socket_folder();
        std::fs::write(folder.join("service.yaml"), manifest)?;
        let file = format!("{SOCKET_FOLDER}/service.yaml");
        self.town.tool(&self.tools, &["apply", "-f", &file])
    }

    fn address(&self, place: usize) -> (usize, usize) {
        let service = place % self.services.len();
        (service, place / self.services.len() % NODES)
    }

    fn labels(&self, place: usize) -> &'static str {
        if self.address(place).0 == CHAINED {
            THROUGH
        } else {
            ""
        }
    }
}

/// Clients reach a gate, through a wall.
fn chain() -> String {
    manifest(
        "chain",
        "    - source_selector: {app: wall}\n      routes: [{destination_selector: {app: gate}}]\n    \
         - routes: [{destination_selector: {app: wall}}]\n",
    )
}

/// Prefers one color of the edited service; the other does where there is none.
pub(crate) fn preferring(color: &str) -> String {
    manifest(
        "alpha",
        &format!(
            "    - routes: [{{destination_selector: {{color: {color}}}}}]\n      fallthrough: true\n    - routes: [{{}}]\n"
        ),
    )
}

fn manifest(name: &str, matches: &str) -> String {
    format!(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata:\n  name: {name}\nspec:\n  payload: \
         ETHERNET\n  matches:\n{matches}"
    )
}
