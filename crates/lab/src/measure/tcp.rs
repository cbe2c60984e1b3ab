//! TCP: is a port open, and how much goes through.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cell::Cell;
use crate::error::LabError;
use crate::serve::SINK;

/// One write: large enough for the kernel to build 64 kB segments.
const CHUNK: usize = 256 * 1024;
/// A connection that is not made or drained within this time is broken.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a TCP transfer brought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TcpReport {
    /// Bytes the server received.
    pub bytes: u64,
    /// From the first byte sent to the server's count received, in seconds.
    pub seconds: f64,
    /// Gigabits (10^9) of payload a second.
    pub gbps: f64,
}

/// True when a TCP connection from the cell to the address is accepted within the time.
///
/// # Errors
/// [`LabError::Dead`] when the cell is gone. A closed or silent port is `false`.
pub fn port_open(cell: &Cell, to: SocketAddr, timeout: Duration) -> Result<bool, LabError> {
    cell.within(|| TcpStream::connect_timeout(&to, timeout).is_ok())
}

/// Sends from the cell to the sink of [`crate::serve`] for that long.
///
/// # Errors
/// [`LabError::System`] when the server cannot be reached or the transfer breaks.
pub fn tcp_throughput(
    cell: &Cell,
    to: SocketAddr,
    duration: Duration,
) -> Result<TcpReport, LabError> {
    cell.within(|| transfer(to, duration))?
        .map_err(|e| LabError::system(format!("send to {to} from {}", cell.name()), e))
}

fn transfer(to: SocketAddr, duration: Duration) -> io::Result<TcpReport> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&SINK)?;
    let chunk = vec![0x6eu8; CHUNK];
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut count = [0u8; 8];
    stream.read_exact(&mut count)?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = u64::from_be_bytes(count);
    #[allow(clippy::cast_precision_loss, reason = "a rate needs three digits")]
    let gbps = bytes as f64 * 8.0 / seconds / 1e9;
    Ok(TcpReport {
        bytes,
        seconds,
        gbps,
    })
}
