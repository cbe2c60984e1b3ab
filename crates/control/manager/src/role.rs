//! The manager's three lists.

use std::{collections::BTreeMap, sync::Arc};

use nsm_chain::{
    Chain, Connections, Directory, Element, Endpoints, Expected, Journal, Noted, Services, Target,
    Tasks, Tokens, Transport,
    begin::Begin,
    elements::{
        Answers, Authorize, ClientInfo, Connect, Ledger, Monitor, Names, Neighbour, Owed, RecvFd,
        Relay, Suspension, Table, Timeout, UpdatePath, UpdateToken,
    },
    follow::{Follower, Stay},
};
use nsm_model::ids::Secret;
use nsm_policy::roles::{Place, Role};
use nsm_registry::{
    chain::{self, Relays},
    mirror::Mirror,
};

use crate::{
    Finder, Locals, View,
    elements::{
        DiscoverForwarder, Drain, Drained, Forwarders, LocalBypass, RecvFd as RecvSocket,
        ToRegistry,
    },
};

/// What a manager is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its stable name: role and node.
    pub name: String,
    /// How other managers reach it: what its endpoints are registered with.
    pub url: String,
    /// What forwarders register under, and the roles in force.
    pub forwarders: Forwarders,
    /// Labels that say where this node is (`nodeName`, `clusterName`).
    pub info: BTreeMap<String, String>,
}

/// What a manager stands on.
#[derive(Clone)]
pub struct Parts {
    /// Derives connection ids.
    pub secret: Secret,
    /// Makes and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Reaches next hops and the registry.
    pub transport: nsm_rpc::Transport,
    /// Where the registry is.
    pub registry: Target,
    /// The copy of the registry.
    pub mirror: Mirror,
    /// What watchers see.
    pub table: Arc<dyn Table>,
    /// Where it writes down what was agreed; without them a restart begins with nothing.
    pub journals: Journals,
    /// Endpoints that take nobody new.
    pub drained: Drained,
    /// Owns what runs in the background.
    pub tasks: Tasks,
}

/// A manager's journals.
#[derive(Clone, Default)]
pub struct Journals {
    /// Of connections.
    pub connections: Option<Arc<dyn Journal>>,
    /// Of the endpoints and forwarders of its node.
    pub endpoints: Option<Arc<dyn Journal>>,
    /// Of the hops that it has asked.
    pub peers: Noted,
    /// The closes that it owes.
    pub owed: Noted,
}

impl std::fmt::Debug for Journals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journals")
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// A manager: its lists, and what answers Find.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Connections.
    pub connections: Chain<Connections>,
    /// Network services.
    pub services: Chain<Services>,
    /// Endpoints and forwarders.
    pub endpoints: Chain<Endpoints>,
    /// Find, of both.
    pub finder: Finder,
}

impl Manager {
    /// The role.
    #[must_use]
    pub fn new(config: &Config, parts: &Parts) -> Self {
        let locals = Arc::new(Locals::default());
        let view = View::new(parts.mirror.clone(), Arc::clone(&locals), &config.url);
        let seams = Seams {
            secret: parts.secret.clone(),
            tokens: parts.tokens.clone(),
            transport: Arc::new(parts.transport.clone()),
            directory: Arc::new(view.clone()),
            table: parts.table.clone(),
            journals: parts.journals.clone(),
            drained: parts.drained.clone(),
            tasks: parts.tasks.clone(),
            known: Known {
                services: parts.mirror.names::<Services>(),
                endpoints: parts.mirror.names::<Endpoints>(),
            },
        };
        let registry = Expected::role(&config.forwarders.roles, &[Role::Registry]);
        let way = parts.transport.clone().expecting(registry);
        let registry = ToRegistry::new(way, parts.registry.clone());
        Self {
            connections: connections(config, &seams),
            services: services(config, &seams, Box::new(registry.clone())),
            endpoints: endpoints(config, &seams, locals, Box::new(registry)),
            finder: Finder {
                view,
                roles: config.forwarders.roles.clone(),
            },
        }
    }
}

/// What the lists stand on: no wire, no clock, no registry of their own.
#[derive(Clone)]
pub struct Seams {
    /// Derives connection ids.
    pub secret: Secret,
    /// Makes and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Reaches next hops.
    pub transport: Arc<dyn Transport>,
    /// What exists, as this node sees it.
    pub directory: Arc<dyn Directory>,
    /// What watchers see.
    pub table: Arc<dyn Table>,
    /// Where it writes down what was agreed.
    pub journals: Journals,
    /// Endpoints that take nobody new.
    pub drained: Drained,
    /// Owns what runs in the background.
    pub tasks: Tasks,
    /// What is registered.
    pub known: Known,
}

/// What is registered, for an operator's policies of registrations.
#[derive(Clone)]
pub struct Known {
    /// Services.
    pub services: Names,
    /// Endpoints.
    pub endpoints: Names,
}

impl Default for Known {
    /// Nothing.
    fn default() -> Self {
        Self {
            services: Arc::new(Default::default),
            endpoints: Arc::new(Default::default),
        }
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seams")
    }
}

/// Connections, in request order.
#[must_use]
pub fn connections(config: &Config, seams: &Seams) -> Chain<Connections> {
    let Seams {
        secret,
        tokens,
        transport,
        directory,
        table,
        journals,
        drained,
        tasks,
        ..
    } = seams.clone();
    let roles = config.forwarders.roles.clone();
    let suspension = Suspension::new(
        &config.name,
        Arc::clone(&tokens),
        Arc::clone(&table),
        Arc::clone(&transport),
        roles.clone(),
    );
    let forwarder = Expected::role(&roles, &[Role::Forwarder]);
    let find = DiscoverForwarder::new(
        Arc::clone(&directory),
        &config.forwarders.service,
        forwarder.clone(),
    );
    let owed = Owed::new(Arc::clone(&transport), tasks.clone()).journalled(Ledger::new(
        journals.owed,
        forwarder.clone(),
        move |name, _| find.resolve(name),
    ));
    let relay = Arc::new(Relay(Arc::clone(&table)));
    let follower = Follower::new(&config.name, Arc::clone(&transport), tasks.clone(), relay)
        .staying(Stay {
            tokens: Arc::clone(&tokens),
            directory: Arc::clone(&directory),
            peers: journals.peers,
        });
    Chain::new(vec![
        // Whose connection it is, by an id that only we could have given.
        Box::new(UpdatePath::new(
            &config.name,
            secret,
            tokens.own_id(),
            roles.clone(),
        )),
        // The caller's token into the path, ours as well.
        Box::new(UpdateToken::new(tokens.clone())),
        // Nothing happens for a caller who has not proved the path.
        Box::new(Authorize::new(tokens.clone())),
        // A client of its own, a hop's by role; and nobody names what is another's.
        Box::new(Neighbour::new(Place::Manager, roles, Arc::clone(&table))),
        // One at a time for each connection.
        Box::new(Begin::journalled(tasks.clone(), journals.connections)),
        // Nobody new to an endpoint that is emptied.
        Box::new(Drain::new(drained, Arc::clone(&table))),
        // What is not refreshed ends.
        Box::new(Timeout::new(tokens.clone(), tasks.clone()).suspending(suspension)),
        // Whoever watches sees what became of it.
        Box::new(Monitor::new(table, follower).owing(owed.clone())),
        // Where the client runs.
        Box::new(ClientInfo::new(config.info.clone())),
        // The namespaces that the mechanisms speak of: they go on to the forwarder.
        Box::new(RecvFd),
        // Which forwarder of this node.
        Box::new(DiscoverForwarder::new(
            directory,
            &config.forwarders.service,
            forwarder,
        )),
        // There.
        Box::new(
            Connect::new(transport, tasks)
                .owing(owed)
                .authorized(Answers::new(tokens)),
        ),
    ])
}

/// Registrations of services, in request order; `registry` is the last element.
#[must_use]
pub fn services(
    config: &Config,
    seams: &Seams,
    registry: Box<dyn Element<Services>>,
) -> Chain<Services> {
    let tokens = seams.tokens.clone();
    let roles = config.forwarders.roles.clone();
    Chain::new(vec![
        // Who registers: its segment and ours.
        Box::new(chain::UpdatePath::new(tokens.clone())),
        // The caller's token into the path, ours as well.
        Box::new(UpdateToken::new(tokens.clone())),
        // Nothing happens for a caller who has not proved the path.
        Box::new(Authorize::of_registry(tokens, seams.known.services.clone())),
        // A workload registers for itself alone, and what it may.
        Box::new(chain::Relay::new(roles, Relays::Nobody)),
        // There.
        registry,
    ])
}

/// Registrations of endpoints and forwarders, in request order; `registry` is the last element.
#[must_use]
pub fn endpoints(
    config: &Config,
    seams: &Seams,
    locals: Arc<Locals>,
    registry: Box<dyn Element<Endpoints>>,
) -> Chain<Endpoints> {
    let Seams {
        tokens,
        journals,
        tasks,
        known,
        ..
    } = seams.clone();
    let roles = config.forwarders.roles.clone();
    Chain::new(vec![
        // Who registers: its segment and ours.
        Box::new(chain::UpdatePath::new(tokens.clone())),
        // The caller's token into the path, ours as well.
        Box::new(UpdateToken::new(tokens.clone())),
        // Nothing happens for a caller who has not proved the path.
        Box::new(Authorize::of_registry(tokens.clone(), known.endpoints)),
        // A workload registers for itself alone, and what it may.
        Box::new(chain::Relay::new(roles, Relays::Nobody)),
        // One that is emptied stays registered.
        Box::new(Drain::new(seams.drained.clone(), seams.table.clone())),
        // One at a time for each name.
        Box::new(Begin::journalled(tasks.clone(), journals.endpoints)),
        // What is not registered again is not local for ever.
        Box::new(Timeout::new(tokens.clone(), tasks)),
        // Where it runs.
        Box::new(ClientInfo::new(config.info.clone())),
        // Its socket.
        Box::new(RecvSocket),
        // Others reach it through us.
        Box::new(LocalBypass::new(
            locals,
            &config.url,
            config.forwarders.clone(),
            tokens,
        )),
        // There.
        registry,
    ])
}
