//! Many light flows at once, from one thread: each member's packets are counted, and every outage
//! is kept with its beginning and end.
//!
//! A datagram carries its number and when it was sent, and the echo server sends it back: an
//! outage is from the sending of the last answered packet before a hole to that of the first one
//! after it, whoever was late to read it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::RECEIVE_BUFFER;
use crate::cell::Cell;
use crate::error::LabError;

/// Outages of one member that are kept; a soak of a day with one a minute has fewer.
const OUTAGES_MAX: usize = 4096;
/// How often answers are read: a receive buffer holds those of a second.
const LOOK: Duration = Duration::from_millis(10);
/// Number and time of sending.
const DATAGRAM: usize = 16;

/// A hole in a flow, in milliseconds after the crowd's start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outage {
    /// The last answered packet before it was sent then.
    pub begin_ms: f64,
    /// The first answered packet after it was sent then.
    pub end_ms: f64,
    /// Packets lost in it.
    pub lost: u64,
    #[serde(skip)]
    numbers: (u64, u64),
}

/// What became of a member's packets.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counted {
    /// When its flow began, in milliseconds after the crowd's start.
    pub begin_ms: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets answered.
    pub received: u64,
    /// Its outages, in order.
    pub outages: Vec<Outage>,
    /// How long nothing has come back by now, in milliseconds: of what was sent since.
    pub silent_ms: f64,
}

struct Member {
    socket: UdpSocket,
    to: SocketAddr,
    counted: Counted,
    /// The newest answered packet: number, and when it was sent.
    last: (u64, Duration),
}

struct Shared {
    start: Instant,
    members: Mutex<BTreeMap<String, Member>>,
    stop: AtomicBool,
}

/// See the module. It holds the network namespaces of its members.
pub struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crowd({})", self.shared.members().len())
    }
}

impl Crowd {
    /// Starts without members; each will send a packet every `interval`.
    ///
    /// # Errors
    /// [`LabError::System`] when no thread can be had.
    pub fn start(interval: Duration) -> Result<Self, LabError> {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            members: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("crowd".to_owned())
            .spawn(move || own.run(interval))
            .map_err(|e| LabError::system("start a crowd's thread", e))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The time since the start, in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> f64 {
        milliseconds(self.shared.start.elapsed())
    }

    /// A flow from a cell to an echo server (IPv4) joins.
    ///
    /// # Errors
    /// [`LabError::Dead`] when the cell is gone, [`LabError::System`] when no socket can be had.
    pub fn join(&self, name: &str, cell: &Cell, to: SocketAddr) -> Result<(), LabError> {
        let failed = |e| LabError::system(format!("start a flow from {} to {to}", cell.name()), e);
        let socket = cell.within(open)?.map_err(failed)?;
        let now = self.shared.start.elapsed();
        let member = Member {
            socket,
            to,
            counted: Counted {
                begin_ms: milliseconds(now),
                ..Counted::default()
            },
            last: (0, now),
        };
        self.shared.members().insert(name.to_owned(), member);
        Ok(())
    }

    /// A member leaves, and its namespace is held no longer.
    #[must_use]
    pub fn leave(&self, name: &str) -> Option<Counted> {
        let member = self.shared.members().remove(name)?;
        Some(member.counted(self.shared.start.elapsed()))
    }

    /// What every member has counted.
    #[must_use]
    pub fn counted(&self) -> BTreeMap<String, Counted> {
        let now = self.shared.start.elapsed();
        let members = self.shared.members();
        let all = members.iter();
        all.map(|(name, member)| (name.clone(), member.counted(now)))
            .collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// === impl Shared ===

impl Shared {
    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, interval: Duration) {
        let mut next = self.start.elapsed();
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.start.elapsed();
            if now >= next {
                self.members().values_mut().for_each(|one| one.send(now));
                // Behind by more than one, it skips: a burst would measure the machine.
                next = (next + interval).max(now);
            }
            let left = next.saturating_sub(self.start.elapsed());
            std::thread::sleep(left.min(LOOK));
            self.members().values_mut().for_each(Member::receive);
        }
    }
}

// === impl Member ===

impl Member {
    fn send(&mut self, now: Duration) {
        self.counted.sent += 1;
        let mut datagram = [0u8; DATAGRAM];
        datagram[..8].copy_from_slice(&self.counted.sent.to_be_bytes());
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        datagram[8..].copy_from_slice(&nanoseconds.to_be_bytes());
        // No route during an outage is what is measured: the packet stays unanswered.
        let _ = self.socket.send_to(&datagram, self.to);
    }

    fn receive(&mut self) {
        let mut datagram = [0u8; DATAGRAM];
        // Errors of earlier packets surface here; what is behind them is read the next time.
        loop {
            match self.socket.recv_from(&mut datagram) {
                Ok((DATAGRAM, _)) => self.answered(&datagram),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    fn answered(&mut self, datagram: &[u8; DATAGRAM]) {
        let field = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let number = field(&datagram[..8]);
        let sent = Duration::from_nanos(field(&datagram[8..]));
        let (last, before) = self.last;
        if number <= last {
            self.late(number);
            return;
        }
        self.counted.received += 1;
        let lost = number - last - 1;
        if lost > 0 && self.counted.outages.len() < OUTAGES_MAX {
            self.counted.outages.push(Outage {
                begin_ms: milliseconds(before),
                end_ms: milliseconds(sent),
                lost,
                numbers: (last, number),
            });
        }
        self.last = (number, sent);
    }

    /// An answer that another one overtook was not lost.
    fn late(&mut self, number: u64) {
        let holes = &mut self.counted.outages;
        let hole = holes
            .iter_mut()
            .rev()
            .find(|hole| hole.numbers.0 < number && number < hole.numbers.1);
        if let Some(hole) = hole.filter(|hole| hole.lost > 0) {
            hole.lost -= 1;
            self.counted.received += 1;
        }
        holes.retain(|hole| hole.lost > 0);
    }

    fn counted(&self, now: Duration) -> Counted {
        let mut counted = self.counted.clone();
        if counted.sent > self.last.0 {
            counted.silent_ms = milliseconds(now.saturating_sub(self.last.1));
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_holes_between_answers() {
        // The numbers that are answered in this order, each sent 10 ms after the one before; what
        // is left as outages: begin, end, lost.
        type Row = (&'static [u64], &'static [(f64, f64, u64)]);
        let rows: &[Row] = &[
            (&[1, 2, 3], &[]),
            (&[1, 4], &[(10.0, 40.0, 2)]),
            (&[3], &[(0.0, 30.0, 2)]),
            (&[1, 3, 2], &[]),
            (&[1, 5, 3], &[(10.0, 50.0, 2)]),
            (&[1, 3, 4, 9], &[(10.0, 30.0, 1), (40.0, 90.0, 4)]),
            // Twice is once.
            (&[1, 2, 2], &[]),
        ];
        for (answers, expected) in rows {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut member = Member {
                to: socket.local_addr().unwrap(),
                socket,
                counted: Counted::default(),
                last: (0, Duration::ZERO),
            };
            for number in *answers {
                let mut datagram = [0; DATAGRAM];
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                datagram[8..].copy_from_slice(&(number * 10_000_000).to_be_bytes());
                member.answered(&datagram);
            }
            let seen: Vec<_> = member
                .counted
                .outages
                .iter()
                .map(|one| (one.begin_ms, one.end_ms, one.lost))
                .collect();
            assert_eq!(seen, *expected, "{answers:?}");
            let lost: u64 = seen.iter().map(|one| one.2).sum();
            let highest = answers.iter().max().copied().unwrap_or(0);
            assert_eq!(member.counted.received + lost, highest, "{answers:?}");
        }
    }
}
