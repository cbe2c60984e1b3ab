//! A watch of endpoints, as somebody at this node sees them.
//!
//! The registry tells of a local endpoint while its registration is still on its way back through
//! us. What is not to be seen yet waits until its registration has come back.

use std::{collections::BTreeMap, sync::Arc};

use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Caller, Endpoints, Error};
use nsm_registry::watch::Subscription;
use tokio::sync::watch;

use crate::finder::{Finder, pass};

/// See the module.
pub(crate) struct Watching {
    changes: Subscription<Endpoints>,
    finder: Finder,
    caller: Option<Caller>,
    /// Those with our URL that are not known here; the registry's own limit is theirs.
    waiting: BTreeMap<String, Arc<NetworkServiceEndpoint>>,
    came: watch::Receiver<()>,
}

impl Watching {
    pub(crate) fn new(
        changes: Subscription<Endpoints>,
        finder: Finder,
        caller: Option<Caller>,
    ) -> Self {
        let came = finder.view.came();
        Self {
            changes,
            finder,
            caller,
            waiting: BTreeMap::new(),
            came,
        }
    }

    /// The next endpoint, and whether it is gone.
    ///
    /// # Errors
    /// The watch has ended.
    pub(crate) async fn next(&mut self) -> Result<(NetworkServiceEndpoint, bool), Error> {
        loop {
            let event = tokio::select! {
                biased;
                // Left alone while nobody waits: what came meanwhile is looked at by the next one.
                Ok(()) = self.came.changed(), if !self.waiting.is_empty() => {
                    let Some(seen) = self.arrived() else { continue };
                    // Others may have come with it.
                    self.came.mark_changed();
                    return Ok((seen, false));
                }
                event = self.changes.next() => event?,
            };
            let name = event.item.name.clone();
            self.waiting.remove(&name);
            if event.deleted {
                return Ok(((*event.item).clone(), true));
            }
            match pass(&self.finder, self.caller.as_ref(), &event.item) {
                Some(seen) => return Ok((seen, false)),
                None => drop(self.waiting.insert(name, event.item)),
            }
        }
    }

    /// One of those that waited and are to be seen now.
    fn arrived(&mut self) -> Option<NetworkServiceEndpoint> {
        let seen = self
            .waiting
            .values()
            .find_map(|one| pass(&self.finder, self.caller.as_ref(), one))?;
        self.waiting.remove(&seen.name);
        Some(seen)
    }
}
