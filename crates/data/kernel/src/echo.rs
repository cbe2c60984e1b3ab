//! Asks whether somebody is there: ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4), and what an
//! interface has received. In the namespace of the calling thread.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// Bytes after the echo header: enough to be told from others', small enough for any path.
const PAYLOAD: &[u8; 8] = b"nsm-echo";
/// Bytes of an answer with an IP header before it, and more than we ever send.
pub const BUFFER: usize = 256;
/// Type numbers of request and reply by family.
const V4_TYPES: (u8, u8) = (8, 0);
const V6_TYPES: (u8, u8) = (128, 129);
/// `linux/icmp.h`, `linux/icmpv6.h`: which types a raw socket is spared, a bit each, and the
/// option's number.
const V4_FILTER: libc::c_int = 1;
const V6_FILTER: libc::c_int = 1;

/// What one socket asks one address.
#[derive(Debug)]
pub struct Echo {
    to: SocketAddr,
    raw: bool,
    id: u16,
    sent: u16,
}

impl Echo {
    /// A socket through the interface with this name and index, which does not block and carries
    /// ICMP: a datagram socket where `net.ipv4.ping_group_range` allows it, else a raw one, which
    /// needs CAP_NET_RAW. `id` tells our raw echoes from others' in this namespace.
    ///
    /// # Errors
    /// The process may have neither, or there is no such interface.
    pub fn open(interface: &str, index: u32, to: IpAddr, id: u16) -> io::Result<(UdpSocket, Self)> {
        let datagram = socket(to, SocketType::DGRAM);
        let (socket, raw) = match datagram {
            Ok(socket) => (socket, false),
            Err(_) => (socket(to, SocketType::RAW)?, true),
        };
        bind_to_device(&socket, interface)?;
        if raw {
            spare(&socket, to)?;
        }
        let to = match to {
            IpAddr::V6(to) if to.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(to, 0, 0, index))
            }
            to => SocketAddr::new(to, 0),
        };
        let echo = Self {
            to,
            raw,
            id,
            sent: 0,
        };
        Ok((socket.into(), echo))
    }

    /// Where requests go.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    /// One more request, and its number.
    pub fn ask(&mut self) -> (Vec<u8>, u16) {
        self.sent = self.sent.wrapping_add(1);
        (request(self.to.ip(), self.id, self.sent), self.sent)
    }

    /// The number of the request that a packet answers, if it is an answer to one of ours.
    ///
    /// Raw IPv4 sockets deliver the IP header, all others do not; datagram sockets have an id of
    /// the kernel's.
    #[must_use]
    pub fn reply(&self, packet: &[u8]) -> Option<u16> {
        let v4 = self.to.is_ipv4();
        let offset = match packet.first() {
            Some(first) if v4 && self.raw => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let kind = if v4 { V4_TYPES.1 } else { V6_TYPES.1 };
        let [first, _, _, _, id0, id1, number0, number1, payload @ ..] = packet.get(offset..)?
        else {
            return None;
        };
        let ours = !self.raw || u16::from_be_bytes([*id0, *id1]) == self.id;
        (*first == kind && ours && payload == PAYLOAD)
            .then(|| u16::from_be_bytes([*number0, *number1]))
    }
}

fn socket(to: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        kind,
        flags,
        Some(protocol),
    )?)
}

/// Since Linux 5.7 everybody may, on a socket that is bound to none.
fn bind_to_device(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    set(
        socket,
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        interface.as_bytes(),
    )
}

/// Only answers come to a raw socket.
fn spare(socket: &OwnedFd, to: IpAddr) -> io::Result<()> {
    match to {
        IpAddr::V4(_) => {
            let spared = !(1_u32 << V4_TYPES.1);
            set(socket, (libc::SOL_RAW, V4_FILTER), &spared.to_ne_bytes())
        }
        IpAddr::V6(_) => {
            let mut spared = [u32::MAX; 8];
            spared[usize::from(V6_TYPES.1) / 32] &= !(1 << (V6_TYPES.1 % 32));
            let bytes: Vec<u8> = spared.iter().flat_map(|word| word.to_ne_bytes()).collect();
            set(socket, (libc::SOL_ICMPV6, V6_FILTER), &bytes)
        }
    }
}

fn set(socket: &OwnedFd, option: (libc::c_int, libc::c_int), value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads
    // `length` bytes of `value`, which are there.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            option.0,
            option.1,
            value.as_ptr().cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn request(to: IpAddr, id: u16, number: u16) -> Vec<u8> {
    let kind = if to.is_ipv4() { V4_TYPES.0 } else { V6_TYPES.0 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(PAYLOAD);
    // The kernel fills in ICMPv6's, which covers the addresses.
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
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

/// How many packets an interface has received; `None` when there is none of that name.
///
/// # Errors
/// `/proc` is not there.
pub fn received(interface: &str) -> io::Result<Option<u64>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(received_in(&table, interface))
}

/// The third column of a row is received packets (proc_pid_net(5)).
fn received_in(table: &str, interface: &str) -> Option<u64> {
    let row = table.lines().find_map(|line| {
        let (name, row) = line.split_once(':')?;
        (name.trim() == interface).then_some(row)
    })?;
    row.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_checksummed_packet_sums_to_zero() {
        for (id, number) in [(0, 0), (1, 2), (0xffff, 0xffff), (0x1234, 7)] {
            let packet = request(Ipv4Addr::LOCALHOST.into(), id, number);
            assert_eq!(checksum(&packet), 0, "id {id} number {number}");
        }
    }

    #[test]
    fn received_packets_are_read_by_name() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n    \
                     lo:       9       8    0\n nsm-1: 100 42 0 0\nnsm-11: 1 7 0\n";
        for (name, count) in [
            ("lo", Some(8)),
            ("nsm-1", Some(42)),
            ("nsm-11", Some(7)),
            ("nsm", None),
        ] {
            assert_eq!(received_in(table, name), count, "{name}");
        }
    }
}
