//! An endpoint's list.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nsm_api::connectioncontext::{DNSConfig, Route};
use nsm_chain::{
    Chain, Connections, Element,
    begin::Begin,
    elements::{
        Answers, Authorize, Connect, Monitor, Neighbour, RecvFd, Suspension, Timeout, TrimPath,
        UpdatePath, UpdateToken,
    },
};
use nsm_policy::roles::Place;

use crate::{
    Parts,
    elements::{
        DnsContext, Heal, Ipam, Joiner, Mechanisms, Passthrough, Prefixes, SendFd, ToManager,
    },
};

/// How long a passthrough endpoint waits for the rest of its chain when it heals: upstream's
/// clients wait as long for a request (`NSM_REQUEST_TIMEOUT`).
const HEAL_PATIENCE: Duration = Duration::from_secs(15);

/// What an endpoint does with a connection.
pub enum Kind {
    /// It ends here, with an address of its own.
    Terminal {
        /// Addresses.
        prefixes: Prefixes,
        /// What the client reaches through us.
        routes: Vec<Route>,
        /// Name servers for the client.
        dns: Vec<DNSConfig>,
        /// Bytes; 0 leaves it open.
        mtu: u32,
    },
    /// It goes on to the next function of its service.
    Passthrough {
        /// Our labels, by which the next function is chosen.
        labels: BTreeMap<String, String>,
        /// Joins the two interfaces of each connection.
        joiner: Arc<dyn Joiner>,
    },
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminal { .. } => "Terminal",
            Self::Passthrough { .. } => "Passthrough",
        })
    }
}

/// An endpoint: a list to serve.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The list.
    pub chain: Chain<Connections>,
}

impl Endpoint {
    /// The role. `more` are a third party's own elements: they stand before `mechanisms`.
    #[must_use]
    pub fn new(parts: &Parts, kind: Kind, more: Vec<Box<dyn Element<Connections>>>) -> Self {
        let mut list = base(parts);
        match kind {
            Kind::Terminal {
                prefixes,
                routes,
                dns,
                mtu,
            } => {
                // Nothing follows us: what an earlier path left is cut.
                list.push(Box::new(TrimPath));
                // Addresses, routes, MTU.
                list.push(Box::new(Ipam::new(prefixes, routes, mtu)));
                // Name servers.
                list.push(Box::new(DnsContext::new(dns)));
                list.extend(more);
                // An interface in it.
                list.push(Box::new(Mechanisms::new(parts.namespace.clone(), false)));
            }
            Kind::Passthrough { labels, joiner } => {
                list.extend(more);
                list.extend(passing(parts, labels, joiner));
            }
        }
        Self {
            chain: Chain::new(list),
        }
    }
}

/// What every endpoint's list begins with, in request order.
fn base(parts: &Parts) -> Vec<Box<dyn Element<Connections>>> {
    let Parts {
        name,
        secret,
        tokens,
        table,
        tasks,
        namespace,
        roles,
        transport,
        journal,
        ..
    } = parts.clone();
    let suspension = Suspension::new(
        name.clone(),
        tokens.clone(),
        Arc::clone(&table),
        transport,
        roles.clone(),
    );
    vec![
        // Whose connection it is.
        Box::new(UpdatePath::new(
            name,
            secret,
            tokens.own_id(),
            roles.clone(),
        )),
        // The caller's token into the path, ours as well.
        Box::new(UpdateToken::new(tokens.clone())),
        // Nothing happens for a caller who has not proved the path.
        Box::new(Authorize::new(tokens.clone())),
        // Forwarders alone; and nobody names what is another's.
        Box::new(Neighbour::new(Place::Endpoint, roles, Arc::clone(&table))),
        // One at a time for each connection.
        Box::new(Begin::journalled(tasks.clone(), journal)),
        // What is not refreshed ends.
        Box::new(Timeout::new(tokens, tasks).suspending(suspension)),
        // Whoever watches sees what became of it.
        Box::new(Monitor::last(table)),
        // Our namespace goes to the forwarder that called, and on to the next one.
        Box::new(SendFd::new(namespace)),
        // Descriptors that come with it, other than our own.
        Box::new(RecvFd),
    ]
}

/// The rest of a passthrough endpoint's list.
fn passing(
    parts: &Parts,
    labels: BTreeMap<String, String>,
    joiner: Arc<dyn Joiner>,
) -> Vec<Box<dyn Element<Connections>>> {
    let Parts {
        name,
        tokens,
        transport,
        manager,
        roles,
        namespace,
        table,
        liveness,
        tasks,
        ..
    } = parts.clone();
    vec![
        // Towards whoever asked: an interface without addresses, a port of the bridge.
        Box::new(Mechanisms::new(namespace.clone(), true)),
        // What is lost behind us is replaced without the client's help.
        Box::new(Heal::new(
            &name,
            transport.clone(),
            table,
            tasks.clone(),
            HEAL_PATIENCE,
            liveness,
        )),
        // On with our own labels.
        Box::new(Passthrough::new(namespace, labels, joiner)),
        // To our manager.
        Box::new(ToManager::new(manager, &roles)),
        // There.
        Box::new(Connect::new(transport, tasks).authorized(Answers::new(tokens))),
    ]
}
