//! At rest: whoever can be served is served, and when everybody has left nothing is left.

use nsm_chain::Error;

use super::{Checker, Rule, Violation, served};
use crate::world::{NODES, World};

impl Checker {
    /// Whether every client that wants to be is served.
    ///
    /// # Errors
    /// One is not.
    pub fn all_served(&self, world: &World) -> Result<(), Violation> {
        for (place, pod) in world.clients.iter().enumerate() {
            if pod.wanted && !served(world, place) {
                let what = format!("{} is not served at rest", pod.name);
                self.broken(Rule::Served, what)?;
            }
        }
        Ok(())
    }

    /// Whether a client's Close was answered well; nobody is away.
    ///
    /// # Errors
    /// It was not.
    pub fn answered(
        &self,
        name: &str,
        answer: Option<&Result<(), Error>>,
    ) -> Result<(), Violation> {
        if matches!(answer, Some(Ok(()))) {
            return Ok(());
        }
        let what = format!("the Close of {name} was answered at rest: {answer:?}");
        self.broken(Rule::Answered, what)
    }

    /// Whether nothing is left of anybody.
    ///
    /// # Errors
    /// Something is.
    pub fn nothing_left(&self, world: &World) -> Result<(), Violation> {
        let mut left = Vec::new();
        for node in 0..NODES {
            let (standing, tombs) = world.ground.kernels[node].counts();
            let forwarder = &world.forwarders[node];
            let counts = [
                ("resources", standing),
                ("links to be deleted", tombs),
                ("lives", forwarder.forwarder.lives.all().len()),
                ("VNIs", forwarder.forwarder.vnis.len()),
                ("connections of the forwarder", forwarder.table.list().len()),
                (
                    "connections of the manager",
                    world.managers[node].table.list().len(),
                ),
            ];
            let some = counts.iter().filter(|(_, count)| *count > 0);
            left.extend(some.map(|(what, count)| format!("node {node}: {count} {what}")));
        }
        for pod in &world.endpoints {
            let Some(role) = &pod.role else { continue };
            let counts = [
                ("addresses", role.prefixes.leases()),
                ("connections", role.table.list().len()),
            ];
            let some = counts.iter().filter(|(_, count)| *count > 0);
            left.extend(some.map(|(what, count)| format!("{}: {count} {what}", pod.name)));
        }
        let records = world.ground.records();
        let some = records.into_iter().filter(|(_, count)| *count > 0);
        left.extend(some.map(|(name, count)| format!("{name}: {count} records")));
        if left.is_empty() {
            return Ok(());
        }
        self.broken(Rule::Empty, format!("left at rest: {}", left.join(", ")))
    }
}
