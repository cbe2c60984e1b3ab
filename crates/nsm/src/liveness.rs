//! Asks the data paths of KERNEL connections in this process's own network namespace: by what
//! their interfaces have received, and where that is nothing, by echoes to the other end.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use clap::Args;
use nsm_api::connection::Connection;
use nsm_kernel::echo::{BUFFER, Echo, received};
use nsm_model::mechanism::Kernel;
use nsm_sdk::{Blind, Flow, Liveness};
use serde::Serialize;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout_at},
};

use crate::{config::truth, station::seconds};

/// How many echoes are asked for within one time-out, as upstream does: none may come back before
/// the far end counts as silent.
const ECHOES: u32 = 4;
/// An interface may be gone for the moment in which another one takes its name.
const REPLACED: Duration = Duration::from_millis(300);
/// A socket that has an error to tell is not asked in a hot loop.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// Addresses of the other end that are asked: one a family is usual.
const MAX_PEERS: usize = 4;

/// How connections' packets are looked at, with upstream's names.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Check {
    /// Look at the packets of connections, and heal what is silent
    #[arg(long, env = "NSM_LIVENESS_CHECK_ENABLED", default_value = "true", value_parser = truth, action = clap::ArgAction::Set)]
    liveness_check_enabled: bool,
    /// How often; packets that came in between make it free
    #[arg(long, env = "NSM_LIVENESS_CHECK_INTERVAL", default_value = "2s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    liveness_check_interval: Duration,
    /// How long the other end has for an answer
    #[arg(long, env = "NSM_LIVENESS_CHECK_TIMEOUT", default_value = "1s", value_parser = humantime::parse_duration)]
    #[serde(with = "seconds")]
    liveness_check_timeout: Duration,
}

impl Check {
    /// What a client looks with.
    pub(crate) fn liveness(&self) -> std::sync::Arc<dyn Liveness> {
        if !self.liveness_check_enabled {
            return std::sync::Arc::new(Blind);
        }
        std::sync::Arc::new(Packets {
            every: self.liveness_check_interval,
            timeout: self.liveness_check_timeout,
            known: Mutex::default(),
            id: AtomicU16::new(u16::try_from(std::process::id() & 0xffff).unwrap_or(0)),
        })
    }
}

/// See the module.
struct Packets {
    every: Duration,
    timeout: Duration,
    known: Mutex<BTreeMap<String, Known>>,
    id: AtomicU16,
}

/// What was found of a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    received: u64,
    /// Its interface was there, and the other end was asked.
    seen: bool,
    /// The other end answers echoes: where it never did, its silence says nothing.
    answers: bool,
}

/// Where a connection's packets come in, and whom to ask.
struct Path<'a> {
    id: &'a str,
    interface: String,
    peers: Vec<IpAddr>,
}

impl<'a> Path<'a> {
    /// `None` where nobody here can tell: another mechanism, a bridge's port, no addresses.
    fn of(connection: &'a Connection) -> Option<Self> {
        let kernel = Kernel::parse(connection.mechanism.as_option()?).ok()?;
        let ip = &connection.context.ip_context;
        let address = |text: &String| text.split('/').next()?.parse().ok();
        let own: Vec<IpAddr> = ip.src_ip_addrs.iter().filter_map(address).collect();
        let peers = ip.dst_ip_addrs.iter().filter_map(address);
        let peers =
            peers.filter(|peer: &IpAddr| own.iter().any(|own| own.is_ipv4() == peer.is_ipv4()));
        let peers: Vec<IpAddr> = peers.take(MAX_PEERS).collect();
        let interface = kernel.name.filter(|_| !kernel.bare)?.to_string();
        (!peers.is_empty()).then_some(Self {
            id: &connection.id,
            interface,
            peers,
        })
    }
}

impl Packets {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, id: &str) -> Known {
        self.known().get(id).copied().unwrap_or_default()
    }

    fn note(&self, id: &str, note: impl FnOnce(&mut Known)) {
        note(self.known().entry(id.to_owned()).or_default());
    }

    /// What its interface has received; `Err` is what that says when it is not there.
    async fn received(&self, path: &Path<'_>) -> Result<u64, Flow> {
        for wait in [REPLACED, Duration::ZERO] {
            match received(&path.interface) {
                Err(_) => return Err(Flow::Unknown),
                Ok(Some(count)) => return Ok(count),
                Ok(None) => sleep(wait).await,
            }
        }
        let gone = self.of(path.id).seen;
        Err(if gone { Flow::Silent } else { Flow::Unknown })
    }

    /// Asks until somebody answers, packets come, or the time is over.
    async fn probe(&self, path: &Path<'_>, before: u64) -> Flow {
        let deadline = Instant::now() + self.timeout;
        let open = |peer: &IpAddr| {
            let id = self.id.fetch_add(1, Ordering::Relaxed);
            let (socket, echo) = Echo::open(&path.interface, 0, *peer, id).ok()?;
            Some((UdpSocket::from_std(socket).ok()?, echo))
        };
        let mut echoes: Vec<(UdpSocket, Echo)> = path.peers.iter().filter_map(open).collect();
        for turn in 1..=ECHOES {
            for (socket, echo) in &mut echoes {
                // What cannot be sent is not answered.
                let _no_route = socket.send_to(&echo.ask().0, echo.to()).await;
            }
            let until = deadline - self.timeout * (ECHOES - turn) / ECHOES;
            if timeout_at(until, any(&echoes)).await.is_ok() {
                self.note(path.id, |known| known.answers = true);
                return Flow::Flows;
            }
            if received(&path.interface).is_ok_and(|now| now.is_some_and(|now| now > before)) {
                return Flow::Flows;
            }
        }
        if self.of(path.id).answers && !echoes.is_empty() {
            Flow::Silent
        } else {
            Flow::Unknown
        }
    }

    async fn check(&self, connection: &Connection, slow: bool) -> Flow {
        let Some(path) = Path::of(connection) else {
            return Flow::Unknown;
        };
        let now = match self.received(&path).await {
            Ok(now) => now,
            Err(flow) => return flow,
        };
        let before = self.of(path.id);
        self.note(path.id, |known| (known.seen, known.received) = (true, now));
        // The first look asks in any case: it tells whether the other end answers at all.
        if slow && before.seen && now > before.received {
            return Flow::Flows;
        }
        let flow = self.probe(&path, now).await;
        if let Ok(Some(after)) = received(&path.interface) {
            self.note(path.id, |known| known.received = after);
        }
        flow
    }
}

/// Ends when one of them is answered.
async fn any(echoes: &[(UdpSocket, Echo)]) {
    let answers = echoes
        .iter()
        .map(|(socket, echo)| Box::pin(answer(socket, echo)));
    if echoes.is_empty() {
        std::future::pending::<()>().await;
    }
    futures_util::future::select_all(answers).await;
}

async fn answer(socket: &UdpSocket, echo: &Echo) {
    let mut buffer = [0; BUFFER];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count)
                if echo
                    .reply(buffer.get(..count).unwrap_or_default())
                    .is_some() =>
            {
                return;
            }
            Ok(_) => {}
            // What came back of a request that found nobody; the next one may.
            Err(_) => sleep(AFTER_ERROR).await,
        }
    }
}

#[async_trait]
impl Liveness for Packets {
    fn every(&self) -> Option<Duration> {
        Some(self.every)
    }

    async fn look(&self, connection: &Connection) -> Flow {
        self.check(connection, true).await
    }

    async fn ask(&self, connection: &Connection) -> Flow {
        self.check(connection, false).await
    }

    fn forget(&self, id: &str) {
        self.known().remove(id);
    }
}
