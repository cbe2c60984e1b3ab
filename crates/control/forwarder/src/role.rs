//! The forwarder's list, and what runs beside it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm_chain::{
    Chain, Connections, Directory, Expected, Journal, Noted, Tasks, Tokens, Transport,
    begin::Begin,
    elements::{
        Answers, Authorize, Connect, Ledger, Monitor, Neighbour, Owed, RecvFd, Relay, Suspension,
        Table, Timeout, UpdatePath, UpdateToken,
    },
    follow::{Follower, Stay},
};
use nsm_model::ids::Secret;
use nsm_policy::roles::{Place, Role, RoleSource};
use tokio::{
    sync::{mpsc, watch::Receiver},
    time::Instant,
};

use crate::{
    Gone, Kernel, Lives, Probe, Vnis,
    elements::{Discover, MechanismTranslation, Mechanisms, Policy, RoundRobin, Xconnect},
    moves::Moves,
    probe::Sessions,
    watch,
};

/// What a forwarder is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its stable name: role and node.
    pub name: String,
    /// Our end of tunnels.
    pub tunnel_ip: IpAddr,
    /// Their UDP port (IANA's for VXLAN is 4789).
    pub vxlan_port: u16,
    /// The MTU of the link that tunnels leave through, bytes.
    pub underlay_mtu: u32,
    /// Refuse to carry IP payload between nodes unencrypted.
    pub require_encryption: bool,
}

/// What a forwarder stands on.
#[derive(Clone)]
pub struct Parts {
    /// Derives connection ids.
    pub secret: Secret,
    /// Makes and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Reaches next hops.
    pub transport: Arc<dyn Transport>,
    /// Looks services and endpoints up, at the node's manager.
    pub directory: Arc<dyn Directory>,
    /// Makes interfaces.
    pub kernel: Arc<dyn Kernel>,
    /// The roles in force.
    pub roles: RoleSource,
    /// What watchers see.
    pub table: Arc<dyn Table>,
    /// Where it writes down what was agreed; without one a restart begins with nothing.
    pub journal: Option<Arc<dyn Journal>>,
    /// The hops that it has asked.
    pub peers: Noted,
    /// The closes that it owes.
    pub owed: Noted,
    /// Owns what runs in the background.
    pub tasks: Tasks,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// A forwarder: its list and its connections.
#[derive(Debug, Clone)]
pub struct Forwarder {
    /// The list.
    pub chain: Chain<Connections>,
    /// Connections with interfaces on this node.
    pub lives: Arc<Lives>,
    /// VNIs in use.
    pub vnis: Arc<Vnis>,
}

impl Forwarder {
    /// The role.
    #[must_use]
    pub fn new(config: &Config, parts: &Parts) -> Self {
        let vnis = Arc::new(Vnis::default());
        let lives = Arc::new(Lives::default());
        let chain = list(config, parts, &vnis, &lives);
        Self { chain, lives, vnis }
    }
}

impl Forwarder {
    /// Watches for what vanishes in the kernel, and counts what passes, until the tasks end.
    pub fn attend(
        &self,
        config: &Config,
        parts: &Parts,
        gone: mpsc::Receiver<Gone>,
        meter_every: Duration,
    ) {
        let Parts {
            kernel,
            table,
            tasks,
            ..
        } = parts.clone();
        let lives = Arc::clone(&self.lives);
        let watch = watch::Watch {
            kernel: kernel.clone(),
            lives,
            table: table.clone(),
            tasks: tasks.clone(),
            mending: Arc::default(),
        };
        tasks.spawn(watch.run(gone));
        tasks.spawn(watch::meter(
            kernel,
            Arc::clone(&self.lives),
            table,
            config.name.clone(),
            meter_every,
        ));
    }
}

/// How long links that nobody owns are left after a restart: whoever was answered in the moment
/// before a kill asks again within seconds.
const GRACE: Duration = Duration::from_secs(60);

/// How long the turn of a connection is waited for whose links are marked.
const MARK_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a journal speaks of every connection of before.
pub trait Whole: Send + Sync {
    /// It does.
    fn is_whole(&self) -> bool;
    /// It may one day: there is a journal.
    fn is_possible(&self) -> bool;
    /// It does from now on.
    fn make(&self);
}

impl Forwarder {
    /// Deletes, after a grace period, what no connection owns: to be called where every connection
    /// of before is known.
    pub fn sweep(&self, parts: &Parts) {
        let (kernel, lives) = (Arc::clone(&parts.kernel), Arc::clone(&self.lives));
        parts.tasks.spawn(async move {
            tokio::time::sleep(GRACE).await;
            sweep(kernel.as_ref(), &lives).await;
        });
    }

    /// As [`sweep`](Self::sweep), where the journal may not speak of everything: links that it does
    /// not know are left alone then, and it is whole when there are none.
    pub fn sweep_when_whole(&self, parts: &Parts, journal: Arc<dyn Whole>) {
        if journal.is_whole() {
            return self.sweep(parts);
        }
        if !journal.is_possible() {
            tracing::warn!("there is no journal: links that nobody owns are left alone");
            return;
        }
        tracing::info!(
            "the journal may lack something: links that nobody owns are left alone until it does not"
        );
        let (kernel, lives) = (Arc::clone(&parts.kernel), Arc::clone(&self.lives));
        parts.tasks.spawn(async move {
            loop {
                tokio::time::sleep(GRACE).await;
                match kernel.unknown(lives.keys()).await {
                    Ok(0) => break,
                    Ok(links) => tracing::info!(links, "of before and not known: left alone"),
                    Err(error) => tracing::warn!(%error, "looking for what nobody knows"),
                }
            }
            journal.make();
            sweep(kernel.as_ref(), &lives).await;
        });
    }

    /// Marks links as the journal's for as long as it is written, so that what a process made whose
    /// records are lost is never swept.
    pub fn mark(&self, parts: &Parts, mut written: Receiver<bool>) {
        let (kernel, lives) = (Arc::clone(&parts.kernel), Arc::clone(&self.lives));
        parts.tasks.spawn(async move {
            while written.changed().await.is_ok() {
                kernel.mark(*written.borrow_and_update());
                for live in lives.all() {
                    let look = async { kernel.repair(&live.plan).await };
                    let deadline = Instant::now() + MARK_PATIENCE;
                    if let Ok(Some(Err(error))) = live.factory.during(deadline, look).await {
                        tracing::warn!(id = live.id, %error, "its links cannot be marked");
                    }
                }
            }
        });
    }

    /// Tells connections that the way to their other node carries no packets, until the tasks end.
    pub fn probe(&self, parts: &Parts, probe: Arc<dyn Probe>) {
        let sessions = Sessions {
            probe,
            lives: Arc::clone(&self.lives),
            table: Arc::clone(&parts.table),
        };
        parts.tasks.spawn(sessions.run());
    }
}

async fn sweep(kernel: &dyn Kernel, lives: &Lives) {
    match kernel.sweep(lives.keys()).await {
        Ok(deleted) => tracing::info!(deleted, "looked for links that nobody owns"),
        Err(error) => tracing::warn!(%error, "deleting what nobody owns"),
    }
}

/// What follows its next hops, and stays with them.
fn follower(config: &Config, parts: &Parts) -> Follower {
    let (transport, tasks) = (parts.transport.clone(), parts.tasks.clone());
    let relay = Arc::new(Relay(parts.table.clone()));
    Follower::new(&config.name, transport, tasks, relay).staying(Stay {
        tokens: parts.tokens.clone(),
        directory: parts.directory.clone(),
        peers: parts.peers.clone(),
    })
}

/// What its leases wait for.
fn suspension(config: &Config, parts: &Parts) -> Suspension {
    let (tokens, table) = (parts.tokens.clone(), parts.table.clone());
    let (transport, roles) = (parts.transport.clone(), parts.roles.clone());
    Suspension::new(&config.name, tokens, table, transport, roles)
}

/// The closes that it owes: to endpoints of its node, and to other nodes' managers.
fn owed(parts: &Parts) -> Owed {
    let find = RoundRobin::new(parts.directory.clone(), parts.roles.clone());
    let manager = Expected::role(&parts.roles, &[Role::Manager]);
    let ledger = Ledger::new(parts.owed.clone(), manager, move |name, connection| {
        find.resolve(&name, &connection.network_service)
    });
    Owed::new(parts.transport.clone(), parts.tasks.clone()).journalled(ledger)
}

/// The forwarder, in request order.
fn list(
    config: &Config,
    parts: &Parts,
    vnis: &Arc<Vnis>,
    lives: &Arc<Lives>,
) -> Chain<Connections> {
    let Parts {
        secret,
        tokens,
        transport,
        directory,
        kernel,
        roles,
        table,
        journal,
        tasks,
        ..
    } = parts.clone();
    let owed = owed(parts);
    let moves = Arc::new(Moves {
        directory: directory.clone(),
        lives: lives.clone(),
        table: table.clone(),
        tasks: tasks.clone(),
        watched: Mutex::default(),
    });
    let policy = Policy {
        tunnel_ip: config.tunnel_ip,
        port: config.vxlan_port,
        underlay_mtu: config.underlay_mtu,
        require_encryption: config.require_encryption,
    };
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
        // Managers alone; and nobody names what is another's.
        Box::new(Neighbour::new(
            Place::Forwarder,
            roles.clone(),
            Arc::clone(&table),
        )),
        // One at a time for each connection.
        Box::new(Begin::noting(tasks.clone(), journal)),
        // What is not refreshed ends.
        Box::new(Timeout::new(tokens.clone(), tasks.clone()).suspending(suspension(config, parts))),
        // Whoever watches sees what became of it.
        Box::new(Monitor::new(table, follower(config, parts)).owing(owed.clone())),
        // The namespaces that the mechanisms speak of.
        Box::new(RecvFd),
        // Which endpoints may serve it.
        Box::new(Discover::new(directory.clone(), tokens.clone()).watching(moves)),
        // How it reaches the caller.
        Box::new(Mechanisms::new(
            vnis.clone(),
            config.tunnel_ip,
            config.vxlan_port,
        )),
        // On the way back: both sides become interfaces.
        Box::new(Xconnect::new(
            kernel,
            vnis.clone(),
            lives.clone(),
            tasks.clone(),
        )),
        // The candidates in turn.
        Box::new(RoundRobin::new(directory, roles)),
        // What the next hop is offered.
        Box::new(MechanismTranslation::new(policy)),
        // There.
        Box::new(
            Connect::new(transport, tasks)
                .owing(owed)
                .authorized(Answers::new(tokens)),
        ),
    ])
}
