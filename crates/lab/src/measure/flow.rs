//! A steady flow of numbered datagrams to an echo server: what was lost, and how long nothing came
//! back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::RECEIVE_BUFFER;
use crate::cell::Cell;
use crate::error::LabError;
use crate::sys;

/// Packets a second unless said otherwise: an outage is seen to the millisecond.
pub const RATE: u32 = 1000;
/// Packets one flow remembers (a quarter of an hour at the usual rate); after that it stops
/// sending.
const PACKETS_MAX: usize = 1 << 20;
/// How often the receiver looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// How often somebody who waits for an answer looks whether it is there.
const ANSWER_LOOK: Duration = Duration::from_millis(5);
/// Datagram: flow id, number, padding.
const DATAGRAM: usize = 64;
/// A packet that is not answered by then is lost: far longer than any way here takes, and than a
/// loaded machine keeps an echo server waiting.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// Falling behind by more than this (a suspended machine), the sender skips instead of bursting.
const BEHIND_MAX: Duration = Duration::from_millis(100);

/// What a flow saw in a window of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FlowReport {
    /// Packets sent in the window.
    pub sent: u64,
    /// Of these, answered.
    pub received: u64,
    /// Of these, not answered within a second of the window's end.
    pub lost: u64,
    /// Longest time within the window in which no answer arrived, in milliseconds; about one packet
    /// interval when all is well.
    pub outage_ms: f64,
    /// When that began, in milliseconds after the flow's start.
    pub outage_begin_ms: f64,
    /// When it ended.
    pub outage_end_ms: f64,
    /// Answers that the kernel dropped at this socket because its buffer was full: a busy
    /// machine's, not the network's.
    pub receive_drops: u64,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    sent: Duration,
    answered: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    id: u64,
    packets: Mutex<Vec<Packet>>,
    drops: AtomicU64,
    stop: AtomicBool,
}

/// A running flow; ends when dropped. It holds the sending cell's network namespace while it runs.
#[derive(Debug)]
pub struct UdpFlow {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpFlow {
    /// Starts `rate` datagrams a second from the cell to an echo server.
    ///
    /// # Errors
    /// [`LabError::Dead`] when the cell is gone, [`LabError::System`] when no socket can be had,
    /// [`LabError::Invalid`] for a rate of 0.
    pub fn start(cell: &Cell, to: SocketAddr, rate: u32) -> Result<Self, LabError> {
        if rate == 0 {
            return Err(LabError::Invalid {
                field: "rate",
                value: "0".to_owned(),
                reason: "must be at least 1 a second",
            });
        }
        let failed = |e: io::Error| {
            LabError::system(format!("start a flow from {} to {to}", cell.name()), e)
        };
        let socket = Arc::new(cell.within(|| open(to))?.map_err(failed)?);
        let id = u64::from_str_radix(&sys::random_id().map_err(failed)?, 16).unwrap_or_default();
        let shared = Arc::new(Shared {
            start: Instant::now(),
            id,
            packets: Mutex::default(),
            drops: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (sender, receiver) = ((shared.clone(), socket.clone()), (shared.clone(), socket));
        // The receiver reads its drop counter from /proc, which shows the namespace of the reading
        // thread.
        let namespace = cell.network_path();
        let interval = Duration::from_secs(1) / rate;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(failed)
        };
        let mut flow = Self {
            shared,
            threads: Vec::new(),
        };
        flow.threads.push(spawn(
            "flow-send",
            Box::new(move || sender.0.send(&sender.1, to, interval)),
        )?);
        flow.threads.push(spawn(
            "flow-receive",
            Box::new(move || {
                let inside = sys::enter_network(&namespace).is_ok();
                receiver.0.receive(&receiver.1, inside);
            }),
        )?);
        Ok(flow)
    }

    /// The time since the flow's start: mark it before and after a fault.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// What happened to the packets sent between two marks, as soon as every one of them is
    /// answered or counts as lost: at most a second after the later mark.
    #[must_use]
    pub fn report(&self, from: Duration, to: Duration) -> FlowReport {
        loop {
            let late = self.now() >= to + ROUND_TRIP;
            let mut report = summary(&self.packets(), from, to);
            if report.lost == 0 || late {
                report.receive_drops = self.shared.drops.load(Ordering::SeqCst);
                return report;
            }
            std::thread::sleep(ANSWER_LOOK);
        }
    }

    /// Waits until an answer to a packet sent after `mark` has arrived; false when none did in
    /// time.
    #[must_use]
    pub fn wait_answer(&self, mark: Duration, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let answered = self
                .packets()
                .iter()
                .rev()
                .take_while(|p| p.sent >= mark)
                .any(|p| p.answered.is_some());
            if answered || Instant::now() >= deadline {
                return answered;
            }
            std::thread::sleep(ANSWER_LOOK);
        }
    }

    fn packets(&self) -> MutexGuard<'_, Vec<Packet>> {
        self.shared
            .packets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.threads
            .drain(..)
            .for_each(|thread| drop(thread.join()));
    }
}

/// Not connected: the source address follows the route, which a healed connection may change.
fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

impl Shared {
    fn send(&self, socket: &UdpSocket, to: SocketAddr, interval: Duration) {
        let mut next = self.start.elapsed();
        let mut datagram = [0u8; DATAGRAM];
        datagram[..8].copy_from_slice(&self.id.to_be_bytes());
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.start.elapsed();
            if now < next {
                std::thread::sleep(next - now);
                continue;
            }
            next = if now - next > BEHIND_MAX { now } else { next } + interval;
            let number = {
                let mut packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
                if packets.len() >= PACKETS_MAX {
                    return;
                }
                packets.push(Packet {
                    sent: self.start.elapsed(),
                    answered: None,
                });
                packets.len() as u64 - 1
            };
            datagram[8..16].copy_from_slice(&number.to_be_bytes());
            // No route during an outage is what the flow measures: the packet stays unanswered.
            let _ = socket.send_to(&datagram, to);
        }
    }

    fn receive(&self, socket: &UdpSocket, inside: bool) {
        let mut buffer = [0u8; DATAGRAM];
        let port = socket.local_addr().map_or(0, |address| address.port());
        let mut looked = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok((DATAGRAM, _)) = socket.recv_from(&mut buffer) {
                self.answered(&buffer);
            }
            if inside && looked.elapsed() > LOOK * 10 {
                looked = Instant::now();
                self.drops.store(drops(port), Ordering::SeqCst);
            }
        }
    }

    fn answered(&self, datagram: &[u8; DATAGRAM]) {
        let now = self.start.elapsed();
        let field = |range: std::ops::Range<usize>| {
            datagram[range]
                .iter()
                .fold(0u64, |n, byte| n << 8 | u64::from(*byte))
        };
        if field(0..8) != self.id {
            return;
        }
        let mut packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        let packet = usize::try_from(field(8..16))
            .ok()
            .and_then(|number| packets.get_mut(number));
        if let Some(packet) = packet {
            packet.answered.get_or_insert(now);
        }
    }
}

/// What the kernel has dropped so far at the UDP sockets of this port in a cell, because whoever
/// reads them was not given the processor in time: a busy machine's losses, not a network's.
///
/// # Errors
/// [`LabError::Dead`] when the cell is gone.
pub fn receive_drops(cell: &Cell, port: u16) -> Result<u64, LabError> {
    cell.within(|| drops(port))
}

/// The `drops` column of /proc/net/udp and udp6 for a local port (proc_net_udp, kernel
/// documentation).
fn drops(port: u16) -> u64 {
    let wanted = format!(":{port:04X}");
    ["udp", "udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|text| {
            let rows = text.lines().filter(|line| {
                line.split_whitespace()
                    .nth(1)
                    .is_some_and(|local| local.ends_with(&wanted))
            });
            rows.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
        .sum()
}

fn summary(packets: &[Packet], from: Duration, to: Duration) -> FlowReport {
    let mut report = FlowReport::default();
    let mut arrivals = vec![from];
    for packet in packets {
        if (from..to).contains(&packet.sent) {
            report.sent += 1;
            report.received += u64::from(packet.answered.is_some());
        }
        arrivals.extend(packet.answered.filter(|time| (from..to).contains(time)));
    }
    report.lost = report.sent - report.received;
    arrivals.push(to);
    arrivals.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    if let Some(gap) = arrivals
        .windows(2)
        .max_by_key(|pair| pair[1].saturating_sub(pair[0]))
    {
        report.outage_begin_ms = milliseconds(gap[0]);
        report.outage_end_ms = milliseconds(gap[1]);
        report.outage_ms = report.outage_end_ms - report.outage_begin_ms;
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_the_longest_gap() {
        let at = Duration::from_millis;
        let packet = |sent, answered: Option<u64>| Packet {
            sent: at(sent),
            answered: answered.map(at),
        };
        // One a millisecond, answered at once, but nothing between 40 and 60.
        let packets: Vec<_> = (0..100)
            .map(|n| packet(n, (!(40..60).contains(&n)).then_some(n)))
            .collect();
        // window, sent, lost, gap begins, gap ends
        let rows = [
            (0, 100, 100, 20, 39.0, 60.0),
            (0, 40, 40, 0, 0.0, 1.0),
            (50, 100, 50, 10, 50.0, 60.0),
            (45, 55, 10, 10, 45.0, 55.0),
        ];
        for (from, to, sent, lost, begin, end) in rows {
            let report = summary(&packets, at(from), at(to));
            assert_eq!((report.sent, report.lost), (sent, lost), "{from}..{to}");
            assert!(report.outage_ms >= end - begin, "{from}..{to}: {report:?}");
            if lost > 0 {
                assert_eq!(
                    (report.outage_begin_ms, report.outage_end_ms),
                    (begin, end),
                    "{from}..{to}"
                );
            }
        }
    }
}
