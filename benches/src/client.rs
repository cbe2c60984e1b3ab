//! A client on the SDK, told by lines on its standard input what to do, which measures itself.
//!
//! Like the product's client it has an identity and an interface of its own for each connection.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nsm_chain::{Target, Tasks};
use nsm_identity::client::Workload;
use nsm_kernel::NetnsFd;
use nsm_model::{
    ids::{SECRET_BYTES, Secret},
    mechanism::Kernel,
    nsurl::NsUrl,
    url::{EndpointUrl, InodeUrl},
};
use nsm_policy::roles::RoleSource;
use nsm_rpc::{Pool, TokenSource, Transport, monitor};
use nsm_sdk::{Blind, Client, Namespace, Order, Parts, Session};
use serde::{Deserialize, Serialize};

/// The hidden subcommand that becomes this program.
pub(crate) const SUBCOMMAND: &str = "__bench-client";
/// What it says when it has an identity.
pub(crate) const READY: &str = "ready";
/// How long one request may take: upstream's clients wait as long.
const PATIENCE: Duration = Duration::from_secs(15);
/// As many threads as the product's roles have.
const WORKERS: usize = 2;

/// What a client is told: one line of JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The first connection's number: names and ids are made of it.
    pub first: u32,
    /// How many connections, one after another.
    pub count: u32,
    /// Close each before the next one; else all are open together, and closed one after another.
    pub each: bool,
}

/// What a client answers, milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub opened: Vec<f64>,
    pub closed: Vec<f64>,
    pub errors: Vec<String>,
}

pub(crate) fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let bench = Arc::new(runtime.block_on(Bench::start())?);
    tell(READY)?;
    for line in std::io::stdin().lock().lines() {
        let task: Task = serde_json::from_str(&line?).context("a task")?;
        let bench = Arc::clone(&bench);
        // Not on this thread: calls would wait for two more wake-ups.
        let report = runtime.block_on(runtime.spawn(async move { bench.work(task).await }))?;
        tell(&serde_json::to_string(&report)?)?;
    }
    Ok(())
}

pub(crate) fn tell(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("standard output")
}

pub(crate) fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("environment variable {name}"))
}

struct Bench {
    client: Client,
    name: String,
    service: String,
    namespace: InodeUrl,
    _workload: Workload,
}

impl Bench {
    async fn start() -> anyhow::Result<Self> {
        let name = variable("NSM_NAME")?;
        let manager = EndpointUrl::parse(&variable("NSM_CONNECT_TO")?);
        let workload = Workload::connect(&variable("SPIFFE_ENDPOINT_SOCKET")?, PATIENCE).await?;
        let tasks = Tasks::new();
        let tokens = TokenSource::new(workload.source());
        let pool = Pool::new(workload.source(), tasks.clone());
        let descriptor = std::fs::File::open("/proc/thread-self/ns/net")?;
        let id = NetnsFd::current()?.id();
        let inode = InodeUrl {
            dev: id.dev,
            ino: id.ino,
        };
        let mut secret = [0; SECRET_BYTES];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
        let parts = Parts {
            name: name.clone(),
            secret: Secret::new(secret),
            tokens: Arc::new(tokens.clone()),
            transport: Arc::new(Transport::new(pool, tokens)),
            manager: Target::Url(manager),
            roles: RoleSource::standard(&workload.source().current().id().trust_domain()),
            namespace: Namespace {
                inode,
                descriptor: Arc::new(descriptor.into()),
            },
            table: Arc::new(monitor::Connections::new()),
            liveness: Arc::new(Blind),
            journal: None,
            tasks,
        };
        Ok(Self {
            client: Client::new(&parts, std::collections::BTreeMap::new(), PATIENCE),
            name,
            service: variable("NSM_BENCH_SERVICE")?,
            namespace: inode,
            _workload: workload,
        })
    }

    async fn work(&self, task: Task) -> Report {
        let mut report = Report::default();
        let mut open = Vec::new();
        for number in task.first..task.first + task.count {
            if let Some(session) = self.open(number, &mut report).await {
                if task.each {
                    close(session, &mut report).await;
                } else {
                    open.push(session);
                }
            }
        }
        for session in open {
            close(session, &mut report).await;
        }
        report
    }

    async fn open(&self, number: u32, report: &mut Report) -> Option<Session> {
        let order = match self.order(number) {
            Ok(order) => order,
            Err(error) => {
                report.errors.push(format!("{error:#}"));
                return None;
            }
        };
        let began = Instant::now();
        match self.client.request(&order).await {
            Ok(session) => {
                report.opened.push(milliseconds(began));
                Some(session)
            }
            Err(error) => {
                report.errors.push(error.to_string());
                None
            }
        }
    }

    fn order(&self, number: u32) -> anyhow::Result<Order> {
        let url: NsUrl = format!("kernel://{}/b-{number}", self.service).parse()?;
        let (mut mechanism, service, labels) = url.into_request_parts();
        let mut kernel = Kernel::parse(&mechanism)?;
        kernel.netns = Some(self.namespace);
        kernel.write(&mut mechanism);
        Ok(Order {
            id: format!("{}-{number}", self.name),
            service,
            mechanisms: vec![mechanism],
            labels,
            ..Order::default()
        })
    }
}

async fn close(session: Session, report: &mut Report) {
    let began = Instant::now();
    match session.close().await {
        Ok(()) => report.closed.push(milliseconds(began)),
        Err(error) => report.errors.push(error.to_string()),
    }
}

pub(crate) fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}
