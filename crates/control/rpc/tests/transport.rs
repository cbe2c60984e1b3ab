//! Connections: mutual TLS always, one for each address, replaced when broken.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use nsm_chain::Code;
use nsm_identity::{IdentitySource, ca::Root};
use nsm_model::url::EndpointUrl;
use nsm_rpc::{ListenError, Listener, Peer, Server, client};
use support::{Caller, does, echo, free_port, id, request, serve, soon, unix};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

#[tokio::test]
async fn a_plain_client_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = [unix(folder.path()), free_port()];
    let running = serve("manager", &addresses, Server::new().connections(echo())).await;
    // HTTP/2's preface and empty settings, as a client without TLS begins.
    let plain = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut answers = Vec::new();
    for address in &running.addresses {
        let mut answer = Vec::new();
        match address {
            EndpointUrl::Tcp { host, port } => {
                let mut socket = TcpStream::connect((host.as_str(), *port)).await.unwrap();
                socket.write_all(plain).await.unwrap();
                let _ = socket.read_to_end(&mut answer).await;
            }
            EndpointUrl::Unix(path) => {
                let mut socket = UnixStream::connect(path).await.unwrap();
                socket.write_all(plain).await.unwrap();
                let _ = socket.read_to_end(&mut answer).await;
            }
            EndpointUrl::Inode(_) | EndpointUrl::Other(_) => panic!("{address}"),
        }
        answers.push(answer);
    }
    for answer in answers {
        // At most a TLS alert, and the end.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
}

#[tokio::test]
async fn strangers_and_wrong_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = [unix(folder.path()), free_port()];
    let running = serve("manager", &addresses, Server::new().connections(echo())).await;
    let foreign = Root::generate("other.test".parse().unwrap()).unwrap();
    let foreign_id = "spiffe://other.test/client".parse().unwrap();
    let foreign = foreign.issue(&foreign_id, Duration::from_secs(60)).unwrap();
    let stranger = Caller::with(IdentitySource::fixed(foreign));
    let caller = Caller::new("client");
    for address in &running.addresses {
        let error = stranger
            .pool
            .connect(address, None, soon())
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated, "{error}");
        let error = caller
            .pool
            .connect(address, Some(&id("forwarder")), soon())
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{error}");
        assert!(
            error
                .message
                .contains("is spiffe://nsm.test/manager, not spiffe://nsm.test/forwarder"),
            "{error}"
        );
        let peer = caller
            .pool
            .connect(address, Some(&id("manager")), soon())
            .await
            .unwrap();
        client::request(&peer, &caller.tokens, request("1"), soon())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn nobody_there() {
    let caller = Caller::new("client");
    for (address, code, says) in [
        (
            "unix:///nowhere/nsm.sock",
            Code::Unavailable,
            "cannot be reached",
        ),
        (
            "unix:///proc/self/fd/9999",
            Code::Unavailable,
            "cannot be opened",
        ),
        ("tcp://127.0.0.1:1", Code::Unavailable, "cannot be reached"),
        ("inode://1/2", Code::InvalidArgument, "cannot be dialled"),
        ("quic://x:1", Code::InvalidArgument, "cannot be dialled"),
    ] {
        let error = caller
            .pool
            .connect(&address.into(), None, soon())
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(caller.pool.is_empty());
    }
}

#[tokio::test]
async fn slow_handshakes_delay_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve(
        "manager",
        &[unix(folder.path())],
        Server::new().connections(echo()),
    )
    .await;
    let EndpointUrl::Unix(path) = &running.addresses[0] else {
        panic!()
    };
    let mut silent = Vec::new();
    for _ in 0..nsm_rpc::MAX_HANDSHAKES / 4 {
        silent.push(UnixStream::connect(path).await.unwrap());
    }
    let caller = Caller::new("client");
    let began = tokio::time::Instant::now();
    caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    assert!(began.elapsed() < nsm_rpc::HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn fifty_calls_share_one_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&peers);
    let chain = does(move |call, request| {
        seen.lock()
            .unwrap()
            .insert(Arc::as_ptr(&Peer::of(call).unwrap()) as usize);
        async move { Ok((*request.connection).clone()) }.boxed()
    });
    let running = serve(
        "manager",
        &[unix(folder.path())],
        Server::new().connections(chain),
    )
    .await;
    let caller = Caller::new("client");
    let calls = (0..50).map(|number| {
        let (caller, address) = (&caller, &running.addresses[0]);
        async move {
            let peer = caller.pool.connect(address, None, soon()).await.unwrap();
            client::request(&peer, &caller.tokens, request(&number.to_string()), soon())
                .await
                .unwrap();
            peer
        }
    });
    let handles = join_all(calls).await;
    assert!(handles.iter().all(|one| one.same(&handles[0])));
    assert_eq!((peers.lock().unwrap().len(), caller.pool.len()), (1, 1));
}

#[tokio::test]
async fn a_dead_peer_is_noticed_and_dialled_again() {
    let folder = tempfile::tempdir().unwrap();
    let address = unix(folder.path());
    let EndpointUrl::Unix(path) = &address else {
        panic!()
    };
    let running = serve(
        "manager",
        std::slice::from_ref(&address),
        Server::new().connections(echo()),
    )
    .await;
    let caller = Caller::new("client");
    let peer = caller.pool.connect(&address, None, soon()).await.unwrap();
    drop(running);
    tokio::time::timeout(Duration::from_millis(500), peer.closed())
        .await
        .unwrap();
    let error = client::request(&peer, &caller.tokens, request("1"), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    // Its socket file goes with it; the tasks that hold it end a moment later.
    while std::path::Path::new(path).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = serve(
        "manager",
        std::slice::from_ref(&address),
        Server::new().connections(echo()),
    )
    .await;
    let again = caller.pool.connect(&address, None, soon()).await.unwrap();
    client::request(&again, &caller.tokens, request("1"), soon())
        .await
        .unwrap();
    drop(running);
}

#[tokio::test]
async fn socket_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/nsm.sock");
    let address = EndpointUrl::Unix(path.to_str().unwrap().to_owned());
    let first = Listener::bind(std::slice::from_ref(&address))
        .await
        .unwrap();
    let error = Listener::bind(std::slice::from_ref(&address))
        .await
        .unwrap_err();
    assert!(matches!(error, ListenError::InUse(_)), "{error}");
    drop(first);
    assert!(!path.exists());
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(
        Listener::bind(std::slice::from_ref(&address))
            .await
            .unwrap(),
    );
    std::fs::write(&path, "a file").unwrap();
    let error = Listener::bind(std::slice::from_ref(&address))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn by_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let address = unix(folder.path());
    let EndpointUrl::Unix(path) = &address else {
        panic!()
    };
    let running = serve(
        "nse",
        std::slice::from_ref(&address),
        Server::new().connections(echo()),
    )
    .await;
    use rustix::fs::{Mode, OFlags, open};
    let socket = Arc::new(open(path.as_str(), OFlags::PATH, Mode::empty()).unwrap());
    let caller = Caller::new("manager");
    let one = caller
        .pool
        .connect_fd(Arc::clone(&socket), None, soon())
        .await
        .unwrap();
    use std::os::fd::AsRawFd as _;
    let url = format!("unix:///proc/self/fd/{}", socket.as_raw_fd());
    let two = caller
        .pool
        .connect(&url.as_str().into(), None, soon())
        .await
        .unwrap();
    assert!(one.same(&two));
    client::request(&two, &caller.tokens, request("1"), soon())
        .await
        .unwrap();
    drop(running);
}

#[tokio::test]
async fn shutdown_answers_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let chain = does(|_, request| {
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok((*request.connection).clone())
        }
        .boxed()
    });
    let mut running = serve(
        "manager",
        &[unix(folder.path())],
        Server::new().connections(chain),
    )
    .await;
    let caller = Caller::new("client");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    let call = client::request(&peer, &caller.tokens, request("1"), soon());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        running.stop.take().unwrap().send(()).unwrap();
    };
    tokio::join!(call, stop).0.unwrap();
    tokio::time::timeout(Duration::from_secs(3), peer.closed())
        .await
        .unwrap();
}

#[tokio::test]
async fn idle_connections_go_and_held_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = [unix(folder.path()), free_port()];
    let running = serve("manager", &addresses, Server::new().connections(echo())).await;
    let caller = Caller::new("client");
    let held = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    drop(
        caller
            .pool
            .connect(&running.addresses[1], None, soon())
            .await
            .unwrap(),
    );
    assert_eq!(caller.pool.len(), 2);
    tokio::time::pause();
    tokio::time::sleep(nsm_rpc::IDLE_AFTER + Duration::from_secs(4)).await;
    assert_eq!(caller.pool.len(), 1);
    assert!(!held.is_closed());
    drop(held);
    tokio::time::sleep(nsm_rpc::IDLE_AFTER + Duration::from_secs(4)).await;
    assert!(caller.pool.is_empty());
}
