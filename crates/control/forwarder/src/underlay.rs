//! Asks other nodes by the way that tunnels take: echoes through a VXLAN device of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use nsm_kernel::{
    Executor, NetnsError,
    echo::{BUFFER, Echo},
    underlay,
};
use tokio::{
    net::UdpSocket,
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::Probe;

/// See the module.
#[derive(Debug)]
pub struct Underlay {
    executor: Arc<Executor>,
    local: IpAddr,
    port: u16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing of an earlier process's is left.
    swept: bool,
    /// Tells our echoes from each other.
    id: u16,
    asked: BTreeMap<IpAddr, (UdpSocket, Echo)>,
}

impl Underlay {
    /// From the node's end of tunnels, over the port of VXLAN.
    #[must_use]
    pub fn new(executor: Arc<Executor>, local: IpAddr, port: u16) -> Self {
        Self {
            executor,
            local,
            port,
            state: Mutex::default(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Executor) -> Result<T, NetnsError> + Send + 'static,
    ) -> Result<T, String> {
        let executor = Arc::clone(&self.executor);
        let done = tokio::task::spawn_blocking(move || work(&executor)).await;
        done.map_err(|error| format!("the kernel's worker was lost: {error}"))?
            .map_err(|error| error.to_string())
    }

    async fn prepare(&self, state: &mut State, peers: &BTreeSet<IpAddr>) -> Result<(), String> {
        state.asked.retain(|peer, _| peers.contains(peer));
        if peers.is_empty() {
            if !std::mem::replace(&mut state.swept, true) {
                self.blocking(Executor::no_underlay).await?;
            }
            return Ok(());
        }
        let new: Vec<IpAddr> = peers
            .iter()
            .filter(|peer| !state.asked.contains_key(peer))
            .copied()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        state.swept = false;
        let (local, port, to) = (self.local, self.port, new.clone());
        let index = self
            .blocking(move |executor| executor.underlay(local, port, to))
            .await?;
        for peer in new {
            state.id = state.id.wrapping_add(1);
            let opened = underlay::socket(index, peer, state.id).and_then(|(socket, echo)| {
                let socket = UdpSocket::from_std(socket)?;
                Ok((socket, echo))
            });
            let opened = opened.map_err(|error| {
                format!("a socket for echoes: {error}; give CAP_NET_RAW or widen net.ipv4.ping_group_range")
            })?;
            state.asked.insert(peer, opened);
        }
        Ok(())
    }
}

#[async_trait]
impl Probe for Underlay {
    async fn ask(
        &self,
        peers: &BTreeSet<IpAddr>,
        wait: Duration,
    ) -> Result<BTreeSet<IpAddr>, String> {
        let mut state = self.state.lock().await;
        self.prepare(&mut state, peers).await?;
        for (peer, (socket, echo)) in &mut state.asked {
            let (packet, _) = echo.ask();
            if let Err(error) = socket.send_to(&packet, echo.to()).await {
                let message = format!("an echo to {peer}: {error}");
                // Somebody has taken the device away, perhaps: everything anew.
                state.asked.clear();
                return Err(message);
            }
        }
        let deadline = Instant::now() + wait;
        let mut answered = BTreeSet::new();
        for (peer, (socket, echo)) in &state.asked {
            if timeout_at(deadline, answer(socket, echo)).await.is_ok() {
                answered.insert(*peer);
            }
        }
        Ok(answered)
    }
}

/// Ends with an answer; what else waits at the socket is read away.
async fn answer(socket: &UdpSocket, echo: &Echo) {
    let mut buffer = [0; BUFFER];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count)
                if echo
                    .reply(buffer.get(..count).unwrap_or_default())
                    .is_some() =>
            {
                break;
            }
            Ok(_) => {}
            // What came back of a request that found nobody: nobody has answered.
            Err(_) => return std::future::pending().await,
        }
    }
    while socket.try_recv(&mut buffer).is_ok() {}
}
