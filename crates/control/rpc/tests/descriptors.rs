//! Descriptors beside the bytes: as grpcfd sends them, bounded, and gone with their connection.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Read as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use nsm_chain::Code;
use nsm_rpc::{
    CLAIMED_FOR, DescriptorError, FdStream, MAX_HELD, MAX_QUEUED, Peer, Server, client, inode_url,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use support::{Caller, echo, free_port, request, serve, soon, unix};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::Instant,
};

fn file(text: &str) -> OwnedFd {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

fn text(fd: OwnedFd) -> String {
    use std::io::Seek as _;
    let mut file = File::from(fd);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// What one recvmsg with much room gives.
fn raw_read(socket: &StdStream) -> (usize, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4_096];
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    (got.unwrap().bytes, descriptors)
}

fn raw_write(socket: &StdStream, bytes: &[u8], fds: &[&OwnedFd]) {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

fn pair() -> (FdStream, StdStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (FdStream::new(UnixStream::from_std(ours).unwrap()), theirs)
}

#[tokio::test]
async fn one_descriptor_a_byte_and_64_a_write() {
    let (mut stream, raw) = pair();
    let files: Vec<_> = (0..70).map(|n| file(&n.to_string())).collect();
    for file in &files {
        stream.descriptors().send(file).unwrap();
    }
    let bytes: Vec<u8> = (0..200).collect();
    stream.write_all(&bytes).await.unwrap();
    let mut sizes = Vec::new();
    let mut seen = Vec::new();
    while sizes.iter().map(|(size, _)| size).sum::<usize>() < bytes.len() {
        let (size, descriptors) = raw_read(&raw);
        sizes.push((size, descriptors.len()));
        seen.extend(descriptors.iter().map(|fd| inode_url(fd).unwrap()));
    }
    // The first write takes 64 and the rest of its bytes; nothing is left to carry six of them.
    assert_eq!(
        sizes.iter().filter(|one| **one == (1, 1)).count(),
        64,
        "{sizes:?}"
    );
    assert_eq!(sizes.last().unwrap(), &(200 - 64, 0));
    stream.write_all(b"more bytes").await.unwrap();
    while seen.len() < files.len() {
        let (size, descriptors) = raw_read(&raw);
        assert_eq!((size, descriptors.len()), (1, 1));
        seen.extend(descriptors.iter().map(|fd| inode_url(fd).unwrap()));
    }
    let (size, descriptors) = raw_read(&raw);
    assert_eq!((size, descriptors.len()), (4, 0));
    assert_eq!(
        seen,
        files
            .iter()
            .map(|file| inode_url(file).unwrap())
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let (stream, _raw) = pair();
    let file = file("x");
    for _ in 0..MAX_QUEUED {
        stream.descriptors().send(&file).unwrap();
    }
    assert_eq!(
        stream.descriptors().send(&file),
        Err(DescriptorError::QueueFull)
    );
}

#[tokio::test]
async fn late_early_and_never() {
    let (mut stream, raw) = pair();
    let descriptors = stream.descriptors();
    let reader = async move {
        let mut bytes = [0; 64];
        while stream.read(&mut bytes).await.unwrap() > 0 {}
    };
    let tasks = nsm_chain::Tasks::new();
    tasks.spawn(reader);
    let (early, late) = (file("early"), file("late"));
    raw_write(&raw, b"x", &[&early]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let name = inode_url(&early).unwrap();
    // Twice: two mechanisms of one request may name the same one.
    assert_eq!(text(descriptors.recv(name, soon()).await.unwrap()), "early");
    assert_eq!(text(descriptors.recv(name, soon()).await.unwrap()), "early");

    let waits = descriptors.recv(inode_url(&late).unwrap(), soon());
    let sends = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        raw_write(&raw, b"xy", &[&late]);
    };
    assert_eq!(text(tokio::join!(waits, sends).0.unwrap()), "late");

    let never = file("never");
    let name = inode_url(&never).unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(
        descriptors.recv(name, deadline).await.unwrap_err(),
        DescriptorError::Missing(name)
    );

    let waits = descriptors.recv(name, soon());
    let closes = async { drop(raw) };
    assert_eq!(
        tokio::join!(waits, closes).0.unwrap_err(),
        DescriptorError::Closed
    );
    tasks.shutdown(Duration::from_secs(5)).await;
    assert!(tasks.is_empty());
    assert_eq!(descriptors.send(&never), Err(DescriptorError::Closed));
}

#[tokio::test]
async fn a_hostile_peer_is_bounded_and_everything_is_closed() {
    let (mut stream, raw) = pair();
    let descriptors = stream.descriptors();
    let sender = std::thread::spawn(move || {
        let mut others = std::collections::VecDeque::new();
        for _ in 0..10_000 {
            let (sent, kept) = StdStream::pair().unwrap();
            raw_write(&raw, b"x", &[&sent.into()]);
            others.push_back(kept);
            if others.len() > 2 * MAX_HELD {
                assert_closed(&others.pop_front().unwrap());
            }
        }
        (raw, others)
    });
    let mut read = 0;
    let mut most = 0;
    let mut bytes = [0; 4_096];
    while read < 10_000 {
        read += stream.read(&mut bytes).await.unwrap();
        most = most.max(descriptors.held());
    }
    let (raw, others) = sender.join().unwrap();
    assert_eq!((most, descriptors.held()), (MAX_HELD, MAX_HELD));
    assert_eq!(descriptors.dropped(), 10_000 - MAX_HELD as u64);
    drop((stream, raw));
    assert_eq!(descriptors.held(), 0);
    others.iter().for_each(assert_closed);
}

/// The other end of a socket pair whose first end was passed.
fn assert_closed(mut kept: &StdStream) {
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn unclaimed_descriptors_age() {
    let (mut stream, raw) = pair();
    let descriptors = stream.descriptors();
    raw_write(&raw, b"x", &[&file("old")]);
    let mut bytes = [0; 16];
    assert_eq!(stream.read(&mut bytes).await.unwrap(), 1);
    assert_eq!(descriptors.held(), 1);
    let idle = tokio::time::timeout(
        nsm_rpc::HELD_FOR + Duration::from_secs(2),
        stream.read(&mut bytes),
    );
    assert!(idle.await.is_err());
    assert_eq!((descriptors.held(), descriptors.dropped()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn each_call_that_was_sent_a_descriptor_has_its_own_time() {
    let (mut stream, raw) = pair();
    let namespace = file("namespace");
    let name = inode_url(&namespace).unwrap();
    for _ in 0..2 {
        raw_write(&raw, b"1", &[&namespace]);
        stream.read_u8().await.unwrap();
    }
    let descriptors = stream.descriptors();
    let mut wait = async |time: Duration| {
        tokio::time::sleep(time).await;
        // The connection's own reads drive what is held.
        let mut byte = [0; 1];
        let _nothing = stream.read(&mut byte).now_or_never();
    };
    for after in [Duration::ZERO, Duration::from_secs(3)] {
        wait(after).await;
        let claimed = descriptors.recv(name, Instant::now()).await;
        assert!(claimed.is_ok(), "after {after:?}: {claimed:?}");
    }
    wait(CLAIMED_FOR + Duration::from_secs(2)).await;
    assert_eq!(descriptors.held(), 0, "nobody needs it any more");
    assert_eq!(descriptors.dropped(), 0);
}

#[tokio::test]
async fn under_tls_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = file("of the server");
    let theirs_name = inode_url(&theirs).unwrap();
    let chain = support::does(move |call, request| {
        let theirs = theirs.try_clone().unwrap();
        async move {
            let peer = Peer::of(call).unwrap();
            assert!(peer.local);
            let name = request.connection.payload.parse().unwrap();
            let got = peer.descriptors.recv(name, call.deadline).await?;
            peer.descriptors.send(&theirs)?;
            let mut answer = (*request.connection).clone();
            answer.payload = text(got);
            Ok(answer)
        }
        .boxed()
    });
    let running = serve(
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
    for round in 0..100 {
        let ours = file(&format!("of the client {round}"));
        let mut asked = request("1");
        asked.connection.get_or_insert_default().payload =
            peer.descriptors().send(&ours).unwrap().to_string();
        let answer = client::request(&peer, &caller.tokens, asked, soon())
            .await
            .unwrap();
        assert_eq!(answer.payload, format!("of the client {round}"));
        let got = peer.descriptors().recv(theirs_name, soon()).await.unwrap();
        assert_eq!(text(got), "of the server");
    }
}

#[tokio::test]
async fn tcp_refuses() {
    let running = serve("manager", &[free_port()], Server::new().connections(echo())).await;
    let caller = Caller::new("client");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    let error = nsm_chain::Error::from(peer.descriptors().send(&file("x")).unwrap_err());
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(
        error
            .message
            .contains("cannot cross the TCP connection to tcp://127.0.0.1:"),
        "{error}"
    );
}
