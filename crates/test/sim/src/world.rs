//! A mesh: nodes, their processes, and the pods that come and go.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use nsm_plan::NetnsId;
use nsm_sdk::Namespace;

use crate::{
    chance::Chance,
    clock::Clock,
    disk::Disk,
    kernel::Kernel,
    keys::Keys,
    log::Log,
    namespaces::namespace,
    net::Net,
    process::Process,
    roles::{ClientRole, EndpointRole, ForwarderRole, Ground, ManagerRole, RegistryRole},
};

/// Nodes with workloads; the registry has one of its own.
pub const NODES: usize = 3;
/// Clients, one connection each.
pub const CLIENTS: usize = 20;
/// Services: each has an endpoint on every node.
pub const SERVICES: [&str; 2] = ["svc-a", "svc-b"];

/// One process of the mesh, whichever incarnation of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The registry.
    Registry,
    /// A node's manager.
    Manager(usize),
    /// A node's forwarder.
    Forwarder(usize),
    /// An endpoint by its place.
    Endpoint(usize),
    /// A client by its place.
    Client(usize),
}

/// An endpoint's pod.
#[derive(Debug)]
pub struct EndpointPod {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: usize,
    /// What it offers.
    pub service: &'static str,
    prefix: String,
    /// Its namespace, while there is one.
    pub namespace: Option<Namespace>,
    /// Its process, while there is one.
    pub role: Option<EndpointRole>,
}

/// A client's pod.
#[derive(Debug)]
pub struct ClientPod {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: usize,
    /// What it asks for.
    pub service: &'static str,
    /// Its namespace, while there is one.
    pub namespace: Option<Namespace>,
    /// Its process, while there is one.
    pub role: Option<ClientRole>,
    /// Whether it should be connected.
    pub wanted: bool,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// What the processes stand on.
    pub ground: Ground,
    /// The registry.
    pub registry: RegistryRole,
    /// The managers, one for each node.
    pub managers: Vec<ManagerRole>,
    /// The forwarders, one for each node.
    pub forwarders: Vec<ForwarderRole>,
    /// The endpoints.
    pub endpoints: Vec<EndpointPod>,
    /// The clients.
    pub clients: Vec<ClientPod>,
    namespaces: u64,
}

/// A namespace as plans have it.
#[must_use]
pub fn netns(namespace: &Namespace) -> NetnsId {
    NetnsId {
        dev: namespace.inode.dev,
        ino: namespace.inode.ino,
    }
}

impl World {
    /// A mesh of a seed, with everything started but the clients.
    #[must_use]
    pub fn new(seed: u64, life: Duration, log: Log) -> Self {
        let clocks: Vec<Clock> = (0..=NODES).map(|_| Clock::default()).collect();
        let kernel = |node: usize| {
            let last = u8::try_from(node + 1).unwrap_or(u8::MAX);
            let address = Ipv4Addr::new(192, 168, 0, last).into();
            Kernel::new(node, address, log.clone())
        };
        let ground = Ground {
            net: Net::new(Chance::new(seed, 1), log.clone()),
            chance: Chance::new(seed, 2),
            checked: Arc::default(),
            life,
            clocks,
            kernels: (0..NODES).map(kernel).collect(),
            disks: Arc::default(),
            log,
        };
        let registry = RegistryRole::start(&ground, NODES, Disk::default());
        let managers = (0..NODES).map(|node| ManagerRole::start(&ground, node));
        let managers = managers.collect();
        let forwarders = (0..NODES).map(|node| ForwarderRole::start(&ground, node));
        let forwarders = forwarders.collect();
        let mut world = Self {
            registry,
            managers,
            forwarders,
            endpoints: Vec::new(),
            clients: Vec::new(),
            namespaces: 0,
            ground,
        };
        world.add_pods();
        world
    }

    fn add_pods(&mut self) {
        for (kind, service) in SERVICES.into_iter().enumerate() {
            for node in 0..NODES {
                let place = self.endpoints.len();
                self.endpoints.push(EndpointPod {
                    name: format!("nse-{}-{}", kind + 1, node + 1),
                    node,
                    service,
                    prefix: format!("10.{}.0.0/26", place + 1),
                    namespace: None,
                    role: None,
                });
                self.start(Who::Endpoint(place));
            }
        }
        for place in 0..CLIENTS {
            self.clients.push(ClientPod {
                name: format!("nsc-{}", place + 1),
                node: place % NODES,
                service: SERVICES[(place / NODES) % SERVICES.len()],
                namespace: None,
                role: None,
                wanted: false,
            });
        }
    }

    fn new_namespace(&mut self, node: usize) -> Namespace {
        self.namespaces += 1;
        let made = namespace(1000 + self.namespaces);
        self.ground.kernels[node].add_namespace(netns(&made));
        made
    }

    /// The process that runs, if one does.
    #[must_use]
    pub fn process(&self, who: Who) -> Option<&Arc<Process>> {
        let process = match who {
            Who::Registry => Some(&self.registry.process),
            Who::Manager(node) => Some(&self.managers[node].process),
            Who::Forwarder(node) => Some(&self.forwarders[node].process),
            Who::Endpoint(place) => self.endpoints[place].role.as_ref().map(|one| &one.process),
            Who::Client(place) => self.clients[place].role.as_ref().map(|one| &one.process),
        };
        process.filter(|process| process.alive())
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self, who: Who) -> bool {
        self.process(who).is_some()
    }

    /// Its keys, where it has some that can end.
    #[must_use]
    pub fn keys(&self, who: Who) -> Option<&Arc<Keys>> {
        match who {
            Who::Registry => None,
            Who::Manager(node) => Some(&self.managers[node].keys),
            Who::Forwarder(node) => Some(&self.forwarders[node].keys),
            Who::Endpoint(place) => self.endpoints[place].role.as_ref().map(|one| &one.keys),
            Who::Client(place) => self.clients[place].role.as_ref().map(|one| &one.keys),
        }
    }

    /// Whether it runs and nothing keeps it from its work.
    #[must_use]
    pub fn works(&self, who: Who) -> bool {
        let hindered = match who {
            Who::Registry => !self.registry.disk.works(),
            Who::Manager(_) | Who::Forwarder(_) | Who::Endpoint(_) | Who::Client(_) => {
                self.keys(who).is_some_and(|keys| !keys.are_good())
            }
        };
        self.runs(who) && !hindered
    }

    /// Starts it, with what the one before left; a pod without a namespace gets one.
    pub fn start(&mut self, who: Who) {
        match who {
            Who::Registry => {
                let disk = self.registry.disk.clone();
                self.registry = RegistryRole::start(&self.ground, NODES, disk);
            }
            Who::Manager(node) => self.managers[node] = ManagerRole::start(&self.ground, node),
            Who::Forwarder(node) => {
                self.forwarders[node] = ForwarderRole::start(&self.ground, node);
            }
            Who::Endpoint(place) => self.start_endpoint(place),
            Who::Client(place) => self.start_client(place),
        }
    }

    fn start_endpoint(&mut self, place: usize) {
        if self.endpoints[place].namespace.is_none() {
            let made = self.new_namespace(self.endpoints[place].node);
            self.endpoints[place].namespace = Some(made);
        }
        let pod = &mut self.endpoints[place];
        let Some(namespace) = &pod.namespace else {
            return;
        };
        let who = (pod.name.as_str(), pod.node);
        let role = EndpointRole::start(&self.ground, who, namespace, pod.service, &pod.prefix);
        pod.role = Some(role);
    }

    fn start_client(&mut self, place: usize) {
        if self.clients[place].namespace.is_none() {
            let made = self.new_namespace(self.clients[place].node);
            self.clients[place].namespace = Some(made);
        }
        let pod = &mut self.clients[place];
        let Some(namespace) = &pod.namespace else {
            return;
        };
        pod.wanted = true;
        let who = (pod.name.as_str(), pod.node);
        pod.role = Some(ClientRole::start(&self.ground, who, namespace, pod.service));
    }

    /// Ends it now, at whichever await it stands.
    pub fn kill(&mut self, who: Who) {
        if let Some(process) = self.process(who) {
            self.ground
                .log
                .mark(format_args!("kill {}", process.name()));
            process.kill();
        }
        match who {
            Who::Endpoint(place) => self.endpoints[place].role = None,
            Who::Client(place) => self.clients[place].role = None,
            Who::Registry | Who::Manager(_) | Who::Forwarder(_) => {}
        }
    }

    /// A pod ends: its process and its namespace.
    pub fn delete(&mut self, who: Who) {
        self.kill(who);
        let (node, namespace) = match who {
            Who::Endpoint(place) => {
                let pod = &mut self.endpoints[place];
                self.ground.forget(&pod.name);
                (pod.node, pod.namespace.take())
            }
            Who::Client(place) => {
                let pod = &mut self.clients[place];
                (pod.node, pod.namespace.take())
            }
            Who::Registry | Who::Manager(_) | Who::Forwarder(_) => return,
        };
        if let Some(namespace) = namespace {
            self.ground
                .log
                .mark(format_args!("{} is gone", namespace.inode));
            self.ground.kernels[node].delete_namespace(netns(&namespace));
        }
    }

    /// Every process that should run at any time.
    #[must_use]
    pub fn servers(&self) -> Vec<Who> {
        let mut all = vec![Who::Registry];
        all.extend((0..NODES).flat_map(|node| [Who::Manager(node), Who::Forwarder(node)]));
        all.extend((0..self.endpoints.len()).map(Who::Endpoint));
        all
    }
}
