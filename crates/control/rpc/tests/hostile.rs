//! What a hostile peer sends beside and below its calls: all of it is closed with its connection.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    fs::File,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nsm_chain::{Code, Error};
use nsm_identity::tls::{self, Expect};
use nsm_model::url::EndpointUrl;
use nsm_rpc::{MAX_HELD, MAX_QUEUED, Peer, Server, client, inode_url};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::{Caller, does, echo, request, serve, soon, source, unix};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

/// Open files are counted for the whole process, runtimes' own among them: one test at a time has
/// a runtime.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// How many descriptors a hostile peer sends.
const MANY: usize = 10_000;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until as many files are open as before.
async fn as_before(before: usize) {
    let patience = Instant::now() + Duration::from_secs(30);
    while open_files() > before {
        assert!(
            Instant::now() < patience,
            "{} files are open, {before} were before",
            open_files()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn path(url: &EndpointUrl) -> &str {
    let EndpointUrl::Unix(path) = url else {
        panic!("{url} is no unix socket");
    };
    path
}

fn file() -> OwnedFd {
    tempfile::tempfile().unwrap().into()
}

#[test]
fn ten_thousand_descriptors_that_nobody_claims() {
    alone(unclaimed());
}

async fn unclaimed() {
    let folder = tempfile::tempdir().unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let server = Server::new().connections(does(move |call, request| {
        let held = Peer::of(call).map_or(0, |peer| peer.descriptors.held());
        seen.fetch_max(held, Ordering::Relaxed);
        Box::pin(async move { Ok(request.connection.into_option().unwrap_or_default()) })
    }));
    let running = serve("server", &[unix(folder.path())], server).await;
    let before = open_files();
    let caller = Caller::new("hostile");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    let mut sent = 0;
    while sent < MANY {
        // As many as the queue takes; each goes with a byte of its own.
        while peer.descriptors().send(&file()).is_ok() {
            sent += 1;
        }
        let mut ask = request("x");
        ask.connection.get_or_insert_default().payload = "x".repeat(8 * MAX_QUEUED);
        client::request(&peer, &caller.tokens, ask, soon())
            .await
            .unwrap();
        assert!(open_files() < before + 3 * MAX_QUEUED + 64);
    }
    let most = most.load(Ordering::Relaxed);
    assert!(most > MAX_HELD / 2 && most <= MAX_HELD, "{most}");
    drop((peer, caller));
    as_before(before).await;
}

/// The name of one file and the descriptor of another: whoever waits is told, and gets neither.
#[test]
fn a_descriptor_that_is_not_what_the_name_says() {
    alone(of_another_kind());
}

async fn of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new().connections(does(|call, request| {
        let descriptors = Peer::of(call).map(|peer| peer.descriptors.clone());
        Box::pin(async move {
            let connection = request.connection.into_option().unwrap_or_default();
            let named = connection.payload.parse().unwrap();
            let soon = Instant::now() + Duration::from_millis(50);
            let got = descriptors.unwrap().recv(named, soon).await;
            got.map_err(Error::from)?;
            Ok(connection)
        })
    }));
    let running = serve("server", &[unix(folder.path())], server).await;
    let before = open_files();
    let caller = Caller::new("hostile");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    let (named, other) = (file(), File::open("/dev/null").unwrap());
    let mut ask = request("x");
    ask.connection.get_or_insert_default().payload = inode_url(&named).unwrap().to_string();
    peer.descriptors().send(&other).unwrap();
    let refused = client::request(&peer, &caller.tokens, ask.clone(), soon()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, Code::DeadlineExceeded, "{refused}");
    assert!(refused.message.contains("did not arrive"), "{refused}");
    peer.descriptors().send(&named).unwrap();
    client::request(&peer, &caller.tokens, ask, soon())
        .await
        .unwrap();
    drop((named, other, peer, caller));
    as_before(before).await;
}

/// How far a peer goes before it is gone.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// Connected.
    Connected,
    /// Descriptors came with bytes that are no TLS.
    Descriptors,
    /// Half of a ClientHello.
    HalfHello,
    /// The handshake is done, and nothing else.
    Shaken,
    /// Half of HTTP/2's preface.
    HalfPreface,
    /// A frame that promises more than comes.
    HalfFrame,
}

async fn goes(url: &EndpointUrl, until: Until) {
    let mut stream = UnixStream::connect(path(url)).await.unwrap();
    match until {
        Until::Connected => {}
        Until::Descriptors => {
            let std: StdStream = stream.into_std().unwrap();
            let files: Vec<_> = (0..8).map(|_| file()).collect();
            let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            let bytes = [std::io::IoSlice::new(b"no TLS")];
            sendmsg(&std, &bytes, &mut control, SendFlags::empty()).unwrap();
        }
        Until::HalfHello => stream
            .write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc])
            .await
            .unwrap(),
        Until::Shaken | Until::HalfPreface | Until::HalfFrame => {
            let config = tls::client_config(&source("hostile"), Expect::Any).unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            let mut tls = connector.connect(tls::server_name(), stream).await.unwrap();
            let bytes: &[u8] = match until {
                Until::HalfPreface => b"PRI * HTTP/2",
                // HEADERS of stream 1, of 100 bytes, of which four come.
                Until::HalfFrame => {
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x64\x01\x04\0\0\0\x01abcd"
                }
                Until::Connected | Until::Descriptors | Until::HalfHello | Until::Shaken => b"",
            };
            tls.write_all(bytes).await.unwrap();
            tls.flush().await.unwrap();
            // The server's settings: it has taken the connection.
            let _settings = tls.read(&mut [0; 64]).await;
        }
    }
}

#[test]
fn truncated_streams_leave_nothing() {
    alone(truncated());
}

async fn truncated() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new().connections(echo());
    let running = serve("server", &[unix(folder.path())], server).await;
    let before = open_files();
    for until in [
        Until::Connected,
        Until::Descriptors,
        Until::HalfHello,
        Until::Shaken,
        Until::HalfPreface,
        Until::HalfFrame,
    ] {
        for _ in 0..50 {
            goes(&running.addresses[0], until).await;
        }
        as_before(before).await;
    }
    let caller = Caller::new("client");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    client::request(&peer, &caller.tokens, request("x"), soon())
        .await
        .unwrap();
}
