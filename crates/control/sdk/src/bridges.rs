//! Joins the two interfaces of each connection by a bridge of its own, in our namespace.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nsm_chain::{Code, Error, Tasks};
use nsm_kernel::{
    KernelError,
    filter::{Filter, FilterError, Role, RuleCounter},
    setup::Own,
};
use nsm_model::{filter::FilterRules, ifname::IfName, mechanism::Mtu};

use crate::elements::{Joined, Joiner};

/// How long the near interface may take to appear: the forwarder makes it as soon as it has our
/// answer, so this is for one that died meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for it: a look costs some 20 microseconds.
const LOOK: Duration = Duration::from_micros(200);
/// The first wait before it is looked again whether the near interface is still a port; each next
/// one is twice as long. The forwarder may make it anew when it has our answer, with another
/// hardware address where the client's address is another one.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Bridges pass whatever their ports do: the largest MTU of Linux's bridge.
const BRIDGE_MTU: u32 = 65_535;

/// See the module.
#[derive(Clone)]
pub struct Bridges {
    state: Arc<Mutex<State>>,
    tasks: Tasks,
}

struct State {
    joined: BTreeMap<String, Joined>,
    filter: Option<Filter>,
}

impl std::fmt::Debug for Bridges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bridges")
    }
}

fn kernel(error: &KernelError) -> Error {
    Error::kernel(Code::Internal, error.to_string())
}

fn filter(error: &FilterError) -> Error {
    Error::kernel(Code::Internal, error.to_string())
}

impl Bridges {
    /// Bridges of the calling thread's namespace; with `rules` only what they allow passes.
    ///
    /// # Errors
    /// The kernel has no packet filter for bridges, or does not let us use it.
    pub fn new(rules: Option<&FilterRules>, tasks: Tasks) -> Result<Self, Error> {
        let opened = match rules {
            Some(rules) => {
                let mut opened = Filter::open().map_err(|error| filter(&error))?;
                opened.replace(rules).map_err(|error| filter(&error))?;
                Some(opened)
            }
            None => None,
        };
        let state = State {
            joined: BTreeMap::new(),
            filter: opened,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            tasks,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each rule has decided so far; empty without rules.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> Result<Vec<RuleCounter>, Error> {
        match &mut self.state().filter {
            Some(opened) => opened.counters().map_err(|error| filter(&error)),
            None => Ok(Vec::new()),
        }
    }

    fn join_now(&self, joined: &Joined) -> Result<(), Error> {
        let bridge = bridge_name(joined)?;
        let mut state = self.state();
        if let Some(opened) = &mut state.filter {
            opened
                .add_port(joined.near.as_str(), Role::Client)
                .map_err(|error| filter(&error))?;
            opened
                .add_port(joined.far.as_str(), Role::Endpoint)
                .map_err(|error| filter(&error))?;
        }
        state.joined.insert(joined.id.clone(), joined.clone());
        drop(state);
        let mut own = Own::open().map_err(|error| kernel(&error))?;
        let mtu =
            Mtu::new(BRIDGE_MTU).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        own.ensure_bridge(&bridge, mtu)
            .map_err(|error| kernel(&error))?;
        own.enslave(&bridge, &joined.far)
            .map_err(|error| kernel(&error))
    }

    /// The near interface comes after our answer.
    fn join_near(&self, joined: &Joined) {
        let began = Instant::now();
        loop {
            match self.try_near(joined) {
                Ok(()) => return,
                Err(error) if began.elapsed() >= PATIENCE => {
                    tracing::warn!(id = joined.id, %error, "the interface towards the client did not come");
                    return;
                }
                Err(_) => std::thread::sleep(LOOK),
            }
            if !self.state().joined.contains_key(&joined.id) {
                return;
            }
        }
    }

    fn try_near(&self, joined: &Joined) -> Result<(), Error> {
        let mut own = Own::open().map_err(|error| kernel(&error))?;
        own.enslave(&bridge_name(joined)?, &joined.near)
            .map_err(|error| kernel(&error))
    }

    /// Joins the near interface again where it was made anew after our answer.
    async fn keep_near(&self, joined: Joined) {
        let (began, mut wait) = (Instant::now(), LOOK_AGAIN);
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(wait).await;
            wait *= 2;
            if !self.state().joined.contains_key(&joined.id) {
                return;
            }
            let (bridges, joined) = (self.clone(), joined.clone());
            // Between the old interface and the new one there is none: the next look finds it.
            let _absent = blocking(move || bridges.try_near(&joined)).await;
        }
    }

    fn part_now(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        let Some(joined) = state.joined.remove(id) else {
            return Ok(());
        };
        if let Some(opened) = &mut state.filter {
            for port in [&joined.near, &joined.far] {
                opened
                    .remove_port(port.as_str())
                    .map_err(|error| filter(&error))?;
            }
        }
        drop(state);
        let mut own = Own::open().map_err(|error| kernel(&error))?;
        own.delete_bridge(&bridge_name(&joined)?)
            .map_err(|error| kernel(&error))
    }
}

/// The bridge of a connection: named after it, so that a restarted process finds it.
fn bridge_name(joined: &Joined) -> Result<IfName, Error> {
    let tail: String = joined
        .id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(11)
        .collect();
    format!("nsm-{tail}")
        .parse()
        .map_err(|error| Error::new(Code::Internal, format!("bridge name: {error}")))
}

async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(
                Code::Internal,
                format!("a worker was lost: {error}"),
            ))
        })
}

#[async_trait]
impl Joiner for Bridges {
    async fn join(&self, joined: Joined) -> Result<(), Error> {
        let bridges = self.clone();
        let both = joined.clone();
        blocking(move || bridges.join_now(&both)).await?;
        let bridges = self.clone();
        self.tasks.spawn(async move {
            let (first, near) = (bridges.clone(), joined.clone());
            let _reported = tokio::task::spawn_blocking(move || first.join_near(&near)).await;
            bridges.keep_near(joined).await;
        });
        Ok(())
    }

    async fn part(&self, id: &str) -> Result<(), Error> {
        let (bridges, id) = (self.clone(), id.to_owned());
        blocking(move || bridges.part_now(&id)).await
    }
}
