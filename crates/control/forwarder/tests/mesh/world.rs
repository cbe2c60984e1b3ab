//! A mesh of real lists over a wire in memory.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::connection::{Connection, Mechanism};
use nsm_chain::{Call, Target, Tasks, Tokens as _, elements::Table as _};
use nsm_forwarder::{Config, Forwarder, Kernel, Parts, Probe};
use nsm_manager::Seams;
use nsm_model::{ids::Secret, ipam::PointToPoint, mechanism, url::EndpointUrl};
use nsm_sdk::{
    Client, Endpoint, Flow, Kind, Liveness, Namespace, Order, Session, elements::Prefixes,
};
use nsm_test_support::{
    Book, Clock, Keys, LIFE, Pipe, Watched, Wire, caller, endpoint, namespace, order, roles,
    service, spiffe,
};
use tokio::time::{Instant, sleep};

use crate::model::{Model, node};

/// The model carries no packets.
const NO_METER: Duration = Duration::from_secs(86_400);

pub(crate) const SERVICE: &str = "svc";
/// How often clients look at their packets.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// One node: its manager, its forwarder, its kernel.
pub(crate) struct Node {
    pub(crate) manager: String,
    pub(crate) forwarder: String,
    pub(crate) kernel: Arc<Model>,
    pub(crate) roles: Forwarder,
    /// What the manager sees: the node's forwarder.
    pub(crate) locals: Arc<Book>,
    /// What the forwarder sees.
    pub(crate) book: Arc<Book>,
    pub(crate) table: Arc<Watched>,
}

/// An endpoint that serves.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) prefixes: Prefixes,
    pub(crate) table: Arc<Watched>,
}

pub(crate) struct World {
    pub(crate) wire: Wire,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) packets: Arc<Packets>,
    pub(crate) ways: Arc<Ways>,
}

/// What the ways between nodes carry.
#[derive(Default)]
pub(crate) struct Ways {
    /// Nodes that nobody's packets reach.
    pub(crate) lost: Mutex<BTreeSet<IpAddr>>,
    /// Why nobody can ask.
    pub(crate) broken: Mutex<Option<String>>,
    /// How often somebody was asked.
    pub(crate) asked: AtomicUsize,
}

#[async_trait]
impl Probe for Ways {
    async fn ask(
        &self,
        peers: &BTreeSet<IpAddr>,
        wait: Duration,
    ) -> Result<BTreeSet<IpAddr>, String> {
        self.asked.fetch_add(peers.len(), Ordering::SeqCst);
        if let Some(why) = self.broken.lock().unwrap().clone() {
            return Err(why);
        }
        let lost = self.lost.lock().unwrap().clone();
        if peers.iter().any(|peer| lost.contains(peer)) {
            sleep(wait).await;
        }
        Ok(peers.difference(&lost).copied().collect())
    }
}

/// What the data paths of all clients are said to be.
pub(crate) struct Packets(Mutex<Flow>);

impl Packets {
    pub(crate) fn are(&self, flow: Flow) {
        *self.0.lock().unwrap() = flow;
    }
}

#[async_trait]
impl Liveness for Packets {
    fn every(&self) -> Option<Duration> {
        Some(LOOK)
    }

    async fn look(&self, _: &Connection) -> Flow {
        *self.0.lock().unwrap()
    }

    async fn ask(&self, _: &Connection) -> Flow {
        *self.0.lock().unwrap()
    }

    fn forget(&self, _: &str) {}
}

fn secret(name: &str) -> Secret {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Secret::new(bytes)
}

fn target(url: &str) -> Target {
    Target::Url(EndpointUrl::parse(url))
}

/// Lets everything that is due happen.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(700)).await;
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            wire: Wire::default(),
            clock: Clock::default(),
            tasks: Tasks::new(),
            packets: Arc::new(Packets(Mutex::new(Flow::Flows))),
            ways: Arc::default(),
        }
    }

    /// A node with this number.
    pub(crate) fn node(&self, n: u8) -> Node {
        let (manager, forwarder) = (
            format!("tcp://10.0.0.{n}:5001"),
            format!("unix:///run/forwarder-{n}"),
        );
        let (kernel, locals, book) = (node(), Arc::new(Book::default()), Arc::new(Book::default()));
        locals.add_service(service(SERVICE));
        book.add_service(service(SERVICE));
        locals.add(endpoint(
            &format!("forwarder-{n}"),
            "forwarder",
            &forwarder,
            &[],
        ));
        let own = format!("forwarder-{n}");
        let roles = self.forwarder(n, &own, &forwarder, kernel.clone(), book.clone());
        let own = format!("manager-{n}");
        let table = self.manager(n, &own, &manager, &locals);
        Node {
            manager,
            forwarder,
            kernel,
            roles,
            locals,
            book,
            table,
        }
    }

    /// The manager of a node, with this SPIFFE ID: in place of the one that was there.
    pub(crate) fn manager(&self, n: u8, own: &str, url: &str, locals: &Arc<Book>) -> Arc<Watched> {
        let name = format!("manager-{n}");
        let (keys, table) = (Keys::new(own, self.clock), Arc::new(Watched::default()));
        let config = nsm_manager::Config {
            name: name.clone(),
            url: url.to_owned(),
            forwarders: by_role(),
            info: [("nodeName".to_owned(), format!("node-{n}"))].into(),
        };
        let seams = Seams {
            journals: Default::default(),
            drained: Default::default(),
            secret: secret(&name),
            tokens: keys.clone(),
            transport: self.wire.transport(keys),
            directory: Arc::clone(locals) as Arc<dyn nsm_chain::Directory>,
            table: table.clone(),
            tasks: self.tasks.clone(),
            known: Default::default(),
        };
        let list = nsm_manager::connections(&config, &seams);
        self.wire
            .attach(url, spiffe(own), list, Some(table.clone()));
        table
    }

    /// The forwarder of a node, with this SPIFFE ID: in place of the one that was there.
    pub(crate) fn forwarder(
        &self,
        n: u8,
        own: &str,
        url: &str,
        kernel: Arc<Model>,
        book: Arc<Book>,
    ) -> Forwarder {
        let name = format!("forwarder-{n}");
        let (keys, table) = (Keys::new(own, self.clock), Arc::new(Watched::default()));
        let config = Config {
            name: name.clone(),
            tunnel_ip: format!("192.168.0.{n}").parse().unwrap(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            require_encryption: false,
        };
        let events = kernel.listen();
        let parts = Parts {
            journal: None,
            peers: Default::default(),
            owed: Default::default(),
            secret: secret(&name),
            tokens: keys.clone(),
            transport: self.wire.transport(keys),
            directory: book,
            kernel: kernel as Arc<dyn Kernel>,
            roles: roles(),
            table: table.clone(),
            tasks: self.tasks.clone(),
        };
        let roles = Forwarder::new(&config, &parts);
        roles.probe(&parts, self.ways.clone());
        roles.attend(&config, &parts, events, NO_METER);
        self.wire
            .attach(url, spiffe(own), roles.chain.clone(), Some(table));
        roles
    }

    fn parts(&self, name: &str, manager: &str, file: &str) -> (nsm_sdk::Parts, Arc<Watched>) {
        let (keys, table) = (Keys::new(name, self.clock), Arc::new(Watched::default()));
        let (inode, descriptor) = namespace(file);
        let parts = nsm_sdk::Parts {
            journal: None,
            name: name.to_owned(),
            secret: secret(name),
            tokens: keys.clone(),
            transport: self.wire.transport(keys),
            manager: target(manager),
            roles: roles(),
            namespace: Namespace { inode, descriptor },
            table: table.clone(),
            liveness: self.packets.clone(),
            tasks: self.tasks.clone(),
        };
        (parts, table)
    }

    /// An endpoint on a node, known to that node's forwarder, and to `others` through its manager.
    pub(crate) fn endpoint(&self, name: &str, on: &Node, others: &[&Node]) -> Served {
        for other in others {
            other.book.add(endpoint(name, SERVICE, &on.manager, &[]));
        }
        self.process(name, name, on)
    }

    /// A process of that endpoint, which calls its socket and its ids after `own`.
    pub(crate) fn process(&self, name: &str, own: &str, on: &Node) -> Served {
        let url = format!("unix:///run/{own}");
        let (parts, table) = self.parts(name, &on.manager, "/dev/zero");
        let parts = nsm_sdk::Parts {
            secret: secret(own),
            ..parts
        };
        let prefixes =
            Prefixes::new(PointToPoint::new(&[vec!["10.0.0.0/24".parse().unwrap()]]).unwrap());
        let kind = Kind::Terminal {
            prefixes: prefixes.clone(),
            routes: Vec::new(),
            dns: Vec::new(),
            mtu: 0,
        };
        let list = Endpoint::new(&parts, kind, Vec::new()).chain;
        self.wire
            .attach(&url, spiffe(name), list, Some(table.clone()));
        on.book.add(endpoint(name, SERVICE, &url, &[]));
        Served {
            url,
            prefixes,
            table,
        }
    }

    pub(crate) fn client(&self, name: &str, on: &Node) -> Client {
        self.client_of(name, on, self.tasks.clone())
    }

    /// A client whose process ends with these tasks.
    pub(crate) fn client_of(&self, name: &str, on: &Node, tasks: Tasks) -> Client {
        let (parts, _) = self.parts(name, &on.manager, "/dev/null");
        let parts = nsm_sdk::Parts { tasks, ..parts };
        Client::new(&parts, Default::default(), Duration::from_secs(5))
    }

    /// A call that somebody makes to a manager by hand.
    pub(crate) fn call(&self, who: &str, manager: &str) -> Call {
        let keys = Keys::new(who, self.clock);
        let pipe = Arc::new(Pipe::default());
        pipe.send_file("/dev/null");
        let token = keys
            .issue(&Call::local(Instant::now()), &spiffe(manager))
            .unwrap();
        Call::from(
            caller(&spiffe(who), pipe),
            Some(token),
            Instant::now() + LIFE,
        )
    }
}

/// What a client in the namespace of `/dev/null` asks for.
pub(crate) fn wanted(id: &str) -> Order {
    Order {
        id: id.to_owned(),
        service: SERVICE.to_owned(),
        mechanisms: vec![kernel()],
        ..Default::default()
    }
}

pub(crate) fn kernel() -> Mechanism {
    let asked = mechanism::Kernel {
        netns: Some(namespace("/dev/null").0),
        name: Some("nsm-1".parse().unwrap()),
        bare: false,
    };
    asked.mechanism()
}

/// The request of somebody who calls by hand.
pub(crate) fn by_hand(client: &str, id: &str) -> nsm_api::networkservice::NetworkServiceRequest {
    order(client, id, SERVICE, kernel())
}

pub(crate) fn names(connection: &Connection) -> Vec<&str> {
    connection
        .path
        .path_segments
        .iter()
        .map(|segment| segment.name.as_str())
        .collect()
}

pub(crate) fn ids(connection: &Connection) -> Vec<&str> {
    connection
        .path
        .path_segments
        .iter()
        .map(|segment| segment.id.as_str())
        .collect()
}

/// The endpoint of the one connection that a node's manager has.
pub(crate) fn serving(node: &Node) -> Vec<String> {
    let all = node.table.all();
    all.iter()
        .map(|one| one.network_service_endpoint_name.clone())
        .collect()
}

/// What is left of everything on these nodes and endpoints: nothing, after a close.
pub(crate) fn left(nodes: &[&Node], served: &[&Served]) -> Vec<String> {
    let mut left = Vec::new();
    for node in nodes {
        let counts = [
            ("resources", node.kernel.standing()),
            ("lives", node.roles.lives.all().len()),
            ("connections of the manager", node.table.all().len()),
        ];
        let some = counts.iter().filter(|(_, count)| *count > 0);
        left.extend(some.map(|(what, count)| format!("{}: {count} {what}", node.forwarder)));
    }
    for served in served {
        let counts = [
            ("addresses", served.prefixes.leases()),
            ("connections", served.table.all().len()),
        ];
        let some = counts.iter().filter(|(_, count)| *count > 0);
        left.extend(some.map(|(what, count)| format!("{}: {count} {what}", served.url)));
    }
    left
}

/// Asks once, as a client that keeps its connection.
pub(crate) async fn connect(client: &Client, id: &str) -> Session {
    client.request(&wanted(id)).await.unwrap()
}

/// Marks the connection down at the client's manager, as a hop further on would.
pub(crate) fn down(node: &Node) {
    for mut connection in node.table.all() {
        connection.state = nsm_api::connection::State::DOWN.into();
        node.table.update(connection);
    }
}

/// Forwarders by their standard names.
fn by_role() -> nsm_manager::elements::Forwarders {
    nsm_manager::elements::Forwarders {
        service: "forwarder".to_owned(),
        roles: roles(),
    }
}
