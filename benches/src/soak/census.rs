//! What there is in kernels, processes and files: the same at the end as at the beginning.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nsm_kernel::stats::LinkReader;
use nsm_lab::Cell;
use serde::Serialize;

use super::city::City;
use crate::usage::Usage;

/// See the module.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Census {
    /// In the namespaces of nodes and endpoints.
    pub links: usize,
    pub vnis: usize,
    pub addresses: usize,
    /// What roles keep on disk, bytes, by role.
    pub journals: BTreeMap<String, u64>,
    /// By role.
    pub roles: BTreeMap<String, Usage>,
}

impl Census {
    pub(crate) fn of(city: &City) -> anyhow::Result<Self> {
        let mut census = Self::default();
        let mesh = &city.town.mesh;
        for node in mesh.nodes() {
            census.kernel(node.node().cell())?;
            let state = node.node().folder().join("state");
            for role in fs::read_dir(&state).into_iter().flatten().flatten() {
                let name = format!("{} of {}", role.file_name().display(), node.node().name());
                census.journals.insert(name, size(&role.path()));
            }
        }
        for endpoint in &city.endpoints {
            census.kernel(endpoint.pod.cell())?;
        }
        for (name, pid) in processes(city) {
            census.roles.insert(name, Usage::of(pid)?);
        }
        Ok(census)
    }

    fn kernel(&mut self, cell: &Cell) -> anyhow::Result<()> {
        let links = cell.within(|| LinkReader::open()?.links(None))??;
        self.links += links.len();
        self.vnis += links.iter().filter(|link| link.vni.is_some()).count();
        let locals = cell.within(|| {
            let text = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default();
            text.matches("/32 host LOCAL").count()
        })?;
        self.addresses += locals;
        Ok(())
    }

    /// Whether kernels hold as much as in the other one.
    pub(crate) fn same_kernel(&self, other: &Self) -> bool {
        let counts = |one: &Self| (one.links, one.vnis, one.addresses);
        counts(self) == counts(other)
    }

    /// Of threads and descriptors, the fewer that another look saw.
    pub(crate) fn least(&mut self, other: &Self) {
        for (name, seen) in &other.roles {
            if let Some(one) = self.roles.get_mut(name) {
                one.threads = one.threads.min(seen.threads);
                one.descriptors = one.descriptors.min(seen.descriptors);
            }
        }
    }

    /// Bytes of all journals.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journals.values().sum()
    }
}

/// Every process of the product but clients, by name, as we number it.
pub(crate) fn processes(city: &City) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    for node in city.town.mesh.nodes() {
        let name = node.node().name();
        for role in ["registry", "manager", "forwarder"] {
            let pid = node.role(role).map(|(_, pid)| pid).filter(|pid| *pid > 0);
            all.extend(pid.map(|pid| (format!("{role} of {name}"), pid)));
        }
        let agent = node.agent().host_pid();
        all.extend(agent.map(|pid| (format!("ca of {name}"), pid)));
    }
    for endpoint in &city.endpoints {
        let name = endpoint.pod.name().to_owned();
        all.extend(endpoint.process.host_pid().map(|pid| (name, pid)));
    }
    all
}

fn size(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
