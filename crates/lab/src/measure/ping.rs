//! ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use serde::Serialize;

use super::percentile;
use crate::cell::Cell;
use crate::error::LabError;

/// An answer later than this counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes after the echo header, as the common tool sends.
const PAYLOAD: usize = 56;
/// Type numbers of request and reply by family.
const V4_TYPES: (u8, u8) = (8, 0);
const V6_TYPES: (u8, u8) = (128, 129);

/// What came of a series of echo requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Replies received in time.
    pub received: u32,
    /// Median round trip in microseconds; absent without a reply.
    pub p50_us: Option<f64>,
    /// 99th percentile in microseconds.
    pub p99_us: Option<f64>,
}

/// Sends `count` echo requests from the cell to `to`, one each `interval` and never before the
/// former is answered or lost.
///
/// # Errors
/// [`LabError::Dead`] when the cell is gone; [`LabError::System`] when no socket can be had. No
/// reply is not an error.
pub fn ping(
    cell: &Cell,
    to: IpAddr,
    count: u32,
    interval: Duration,
) -> Result<PingReport, LabError> {
    cell.within(|| series(to, count, interval))?
        .map_err(|e| LabError::system(format!("ping {to} from {}", cell.name()), e))
}

fn series(to: IpAddr, count: u32, interval: Duration) -> io::Result<PingReport> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    sockopt::set_socket_recv_buffer_size(&socket, super::RECEIVE_BUFFER)?;
    // The process number of this thread's process is shared by all its measurements: the time tells
    // them apart.
    let id = u16::try_from(
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |t| t.subsec_nanos())
            >> 8
            & 0xffff,
    )
    .unwrap_or(0);
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..count {
        std::thread::sleep((start + interval * number).saturating_duration_since(Instant::now()));
        let sequence = u16::try_from(number & 0xffff).unwrap_or(0);
        let sent = Instant::now();
        // A route that is missing now may be there for the next request: it counts as lost.
        if rustix::net::sendto(
            &socket,
            &request(to, id, sequence),
            SendFlags::empty(),
            &SocketAddr::new(to, 0),
        )
        .is_ok()
            && wait(&socket, to, id, sequence, sent)?
        {
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    let received = u32::try_from(times.len()).unwrap_or(u32::MAX);
    Ok(PingReport {
        sent: count,
        received,
        p50_us: percentile(&times, 50),
        p99_us: percentile(&times, 99),
    })
}

fn wait(socket: &OwnedFd, to: IpAddr, id: u16, sequence: u16, sent: Instant) -> io::Result<bool> {
    let mut buffer = [0u8; 2048];
    loop {
        let left = ANSWER_TIMEOUT.saturating_sub(sent.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        // A zero timeout would mean none (socket(7)).
        sockopt::set_socket_timeout(
            socket,
            sockopt::Timeout::Recv,
            Some(left.max(Duration::from_millis(1))),
        )?;
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((count, _)) if is_reply(to, &buffer[..count], id, sequence) => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn request(to: IpAddr, id: u16, sequence: u16) -> Vec<u8> {
    let kind = if to.is_ipv4() { V4_TYPES.0 } else { V6_TYPES.0 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.resize(packet.len() + PAYLOAD, 0x6e);
    // The kernel fills in ICMPv6's, which covers the addresses.
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Raw IPv4 sockets deliver the IP header, IPv6 ones do not.
fn is_reply(to: IpAddr, packet: &[u8], id: u16, sequence: u16) -> bool {
    let (kind, offset) = match to {
        IpAddr::V4(_) => (
            V4_TYPES.1,
            packet
                .first()
                .map_or(0, |byte| usize::from(byte & 0x0f) * 4),
        ),
        IpAddr::V6(_) => (V6_TYPES.1, 0),
    };
    let Some(&[first, _, _, _, id0, id1, seq0, seq1]) = packet.get(offset..offset + 8) else {
        return false;
    };
    first == kind
        && u16::from_be_bytes([id0, id1]) == id
        && u16::from_be_bytes([seq0, seq1]) == sequence
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksummed_packet_sums_to_zero() {
        for (id, sequence) in [(0, 0), (1, 2), (0xffff, 0xffff), (0x1234, 7)] {
            let packet = request(IpAddr::from([10, 0, 0, 1]), id, sequence);
            assert_eq!(checksum(&packet), 0, "id {id} sequence {sequence}");
        }
    }

    #[test]
    fn only_the_awaited_reply_counts() {
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        let reply = |kind: u8, id: u8, seq: u8| vec![kind, 0, 0, 0, 0, id, 0, seq];
        let rows = [
            (reply(129, 1, 2), true),
            (reply(128, 1, 2), false),
            (reply(129, 9, 2), false),
            (vec![129], false),
        ];
        for (packet, expected) in rows {
            assert_eq!(is_reply(v6, &packet, 1, 2), expected, "{packet:?}");
        }
    }
}
