//! Joins the two interfaces of each connection by a bridge of its own, in our namespace.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use nsm_chain::{Code, Error};
use nsm_kernel::{
    KernelError,
    arrivals::Arrivals,
    filter::{Filter, FilterError, Role, RuleCounter},
    setup::Own,
};
use nsm_model::{filter::FilterRules, ifname::IfName, mechanism::Mtu};

use crate::elements::{Joined, Joiner};

/// Bridges pass whatever their ports do: the largest MTU of Linux's bridge.
const BRIDGE_MTU: u32 = 65_535;

/// See the module.
#[derive(Clone)]
pub struct Bridges {
    state: Shared,
    _arrivals: Arc<Arrivals>,
}

type Shared = Arc<Mutex<State>>;

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
    /// The kernel has no packet filter for bridges, or does not let us use it, or does not tell us
    /// of interfaces.
    pub fn new(rules: Option<&FilterRules>) -> Result<Self, Error> {
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
        let state = Arc::new(Mutex::new(state));
        let known = Arc::clone(&state);
        let arrivals = Arrivals::start(move |name| arrived(&known, name));
        Ok(Self {
            state,
            _arrivals: Arc::new(arrivals.map_err(|error| kernel(&error))?),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
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
            .map_err(|error| kernel(&error))?;
        match own.enslave(&bridge, &joined.near) {
            // The forwarder makes it when it has our answer, and we hear of it.
            Err(error) if error.is_gone() => Ok(()),
            done => done.map_err(|error| kernel(&error)),
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

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an interface that has come, or any, a port where it belongs: whatever is sent through it
/// before that is lost.
fn arrived(state: &Mutex<State>, name: Option<&str>) {
    let here = |port: &IfName| name.is_none_or(|name| port.as_str() == name);
    let ports = |joined: &Joined| {
        let both = [&joined.near, &joined.far].map(|port| (joined.clone(), port.clone()));
        both.into_iter().filter(|(_, port)| here(port))
    };
    let ports: Vec<_> = lock(state).joined.values().flat_map(ports).collect();
    for (joined, port) in ports {
        let join = || {
            let bridge = bridge_name(&joined)?;
            let mut own = Own::open().map_err(|error| kernel(&error))?;
            own.enslave(&bridge, &port).map_err(|error| kernel(&error))
        };
        if let Err(error) = join() {
            // It left again, or the connection is about to be joined or parted.
            tracing::debug!(id = joined.id, %port, %error, "has come, and is no port yet");
        }
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
        blocking(move || bridges.join_now(&joined)).await
    }

    async fn part(&self, id: &str) -> Result<(), Error> {
        let (bridges, id) = (self.clone(), id.to_owned());
        blocking(move || bridges.part_now(&id)).await
    }
}
