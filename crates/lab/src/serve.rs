//! A server inside a pod to measure against: TCP echo and sink, UDP echo. Run as a child so that it
//! dies with the pod.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cell::{Cell, Output, Process, Run};
use crate::error::LabError;

/// The hidden subcommand the binary dispatches to [`main`].
pub const SUBCOMMAND: &str = "__lab-serve";
/// A connection that begins with these bytes is read to its end and answered with the count of the
/// bytes that followed, as 8 bytes big-endian; any other is echoed.
pub(crate) const SINK: [u8; 4] = *b"SINK";
/// Connections served at once, a thread each; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// A server that has not bound its ports by then never will.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// What it says on standard output when every port is bound.
const READY: &[u8] = b"serving\n";
/// One read of a sink: large enough that the system calls do not limit the rate.
const BUFFER: usize = 256 * 1024;
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Starts the server in a cell and returns when its ports are bound.
///
/// # Errors
/// As [`Cell::spawn`]; [`LabError::Timeout`] when it does not become ready, its log says why.
pub fn start(cell: &Cell, tcp: &[u16], udp: &[u16]) -> Result<Process, LabError> {
    let list = |ports: &[u16]| {
        ports
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| LabError::system("make a pipe to the server", e))?;
    let run =
        Run::nsm([SUBCOMMAND, "--tcp", &list(tcp), "--udp", &list(udp)]).stdout(Output::Fd(write));
    let process = cell.spawn(run)?;
    if ready(&read) {
        Ok(process)
    } else {
        Err(not_ready(cell))
    }
}

fn not_ready(cell: &Cell) -> LabError {
    LabError::Timeout {
        what: format!("server in {}", cell.name()),
        milliseconds: START_TIMEOUT.as_millis(),
    }
}

fn ready(read: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec {
        tv_sec: START_TIMEOUT.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(read, PollFlags::IN)];
    let mut text = [0u8; READY.len()];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1))
        && rustix::io::read(read, &mut text[..]).is_ok_and(|count| text[..count] == *READY)
}

/// Runs the server: `--tcp PORT,... --udp PORT,...`. Returns only when a port cannot be bound or an
/// argument is wrong.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is the log that the lab's user reads.
            let _ = writeln!(io::stderr(), "{SUBCOMMAND}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &[String]) -> io::Result<()> {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for pair in args.chunks(2) {
        match pair {
            [flag, ports] if flag == "--tcp" => tcp = parse(ports)?,
            [flag, ports] if flag == "--udp" => udp = parse(ports)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("unknown argument {}", pair[0]),
                ));
            }
        }
    }
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for port in tcp {
        let listener = any(port, TcpListener::bind)?;
        let open = open.clone();
        threads.push(std::thread::spawn(move || accept(&listener, &open)));
    }
    for port in udp {
        let socket = any(port, UdpSocket::bind)?;
        threads.push(std::thread::spawn(move || echo_datagrams(&socket)));
    }
    let mut output = io::stdout();
    output.write_all(READY)?;
    output.flush()?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn parse(ports: &str) -> io::Result<Vec<u16>> {
    let wrong = |text: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("port {text:?} is not 1 to 65535"),
        )
    };
    ports
        .split(',')
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| wrong(text)))
        .collect()
}

/// Binds both families at once, or IPv4 where the kernel has no IPv6.
fn any<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    bind((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| bind((Ipv4Addr::UNSPECIFIED, port).into()))
        .map_err(|e| io::Error::new(e.kind(), format!("bind port {port}: {e}")))
}

fn accept(listener: &TcpListener, open: &Arc<AtomicUsize>) {
    for stream in listener.incoming().flatten() {
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let open = open.clone();
        std::thread::spawn(move || {
            // A client that goes away in the middle is not the server's concern.
            let _ = answer(stream);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut head = [0u8; SINK.len()];
    let mut have = 0;
    while have < head.len() {
        let count = stream.read(&mut head[have..])?;
        if count == 0 || !SINK.starts_with(&head[..have + count]) {
            stream.write_all(&head[..have + count])?;
            break;
        }
        have += count;
    }
    if have < head.len() {
        let mut writer = stream.try_clone()?;
        return io::copy(&mut stream, &mut writer).map(drop);
    }
    let mut buffer = vec![0u8; BUFFER];
    let mut total = 0u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            count => total += count as u64,
        }
    }
}

fn echo_datagrams(socket: &UdpSocket) {
    // As much as the kernel grants: a burst that waits for this thread is not a loss of the
    // network.
    let _ =
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, crate::measure::RECEIVE_BUFFER);
    let mut buffer = vec![0u8; DATAGRAM_MAX];
    loop {
        // ICMP errors of earlier answers surface here; the next datagram is not concerned.
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    }
}
