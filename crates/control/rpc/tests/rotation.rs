//! Connections whose SVIDs are replaced, on either side.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::join_all};
use nsm_chain::{Code, Error, Tokens as _};
use nsm_identity::{IdentitySource, token};
use nsm_rpc::{Peer, PeerHandle, Server, TokenSource, client};
use support::{Caller, authority, does, id, identity, request, serve, serve_as, soon, unix};

#[tokio::test]
async fn the_svid_rotates_under_live_calls() {
    let folder = tempfile::tempdir().unwrap();
    let chain = does(|_, request| {
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok((*request.connection).clone())
        }
        .boxed()
    });
    let running = serve(
        "manager",
        &[unix(folder.path())],
        Server::new().connections(chain),
    )
    .await;
    let (publisher, source) = IdentitySource::channel(identity("client"));
    let caller = Caller::with(source);
    let first = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let work = join_all((0..8).map(|_| async {
        while !done.load(Ordering::Relaxed) {
            let peer = caller
                .pool
                .connect(&running.addresses[0], None, soon())
                .await
                .unwrap();
            client::request(&peer, &caller.tokens, request("1"), soon())
                .await
                .unwrap();
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let rotate = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            publisher.publish(identity("client"));
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, rotate);
    let last = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    assert!(!last.same(&first));
    assert!(
        !first.is_closed(),
        "a held connection stays until it is let go"
    );
    assert!(calls.load(Ordering::Relaxed) > 40);
}

/// A connection outlives the SVID that it was made with: what is sent on it stays what its peer can
/// check, and nobody begins anew on one whose peer's certificate is about to end.
#[tokio::test]
async fn a_connection_speaks_with_the_svid_that_it_showed() {
    let folder = tempfile::tempdir().unwrap();
    let proved = does(|call, request| {
        let (peer, token) = (Peer::of(call).unwrap(), call.token.clone().unwrap());
        async move {
            token::verify(&token.jwt, &peer.certificate)
                .map_err(|error| Error::new(Code::Unauthenticated, error.to_string()))?;
            Ok((*request.connection).clone())
        }
        .boxed()
    });
    let server = Server::new().connections(proved);
    let short = authority().issue(&id("manager"), Duration::from_secs(2));
    let (_rotated, source) = IdentitySource::channel(short.unwrap());
    let running = serve_as(source, &[unix(folder.path())], server).await;
    let (publisher, source) = IdentitySource::channel(identity("client"));
    let caller = Caller::with(source);
    let dial = || caller.pool.connect(&running.addresses[0], None, soon());
    let first = dial().await.unwrap();
    publisher.publish(identity("client"));
    let second = dial().await.unwrap();
    assert!(!second.same(&first) && dial().await.unwrap().same(&second));
    for handle in [&first, &second] {
        client::request(handle, &caller.tokens, request("1"), soon())
            .await
            .unwrap();
    }
    let left = second.peer().not_after.duration_since(SystemTime::now());
    tokio::time::sleep(left.unwrap() / 2 + Duration::from_millis(50)).await;
    assert!(!dial().await.unwrap().same(&second), "half of it is over");
}

#[tokio::test]
async fn answers_are_signed_by_the_key_that_the_connection_was_shown() {
    let (publisher, source) = IdentitySource::channel(identity("server"));
    let tokens = TokenSource::new(source.clone());
    // As `updatetoken` does.
    let chain = does(move |call, request| {
        let caller = call.caller.as_ref().unwrap().id.clone();
        let token = tokens.issue(call, &caller);
        async move {
            let mut connection = request.connection.into_option().unwrap();
            connection.id = token?.jwt;
            Ok(connection)
        }
        .boxed()
    });
    let folder = tempfile::tempdir().unwrap();
    let addresses = [unix(folder.path())];
    let running = serve_as(source, &addresses, Server::new().connections(chain)).await;
    let caller = Caller::new("client");
    let connect = || caller.pool.connect(&running.addresses[0], None, soon());
    let first = connect().await.unwrap();
    let proves = async |peer: &PeerHandle, when: &str| {
        let answer = client::request(peer, &caller.tokens, request("1"), soon()).await;
        let certificate = &peer.peer().certificate;
        let verified = caller.tokens.verify(&answer.unwrap().id, certificate);
        assert!(verified.is_ok(), "{when}: {verified:?}");
    };
    proves(&first, "before").await;
    for _ in 0..2 {
        publisher.publish(identity("server"));
        proves(&first, "after a rotation").await;
    }
    // One that is nearly over signs nothing more.
    let brief = authority().issue(&id("server"), Duration::from_secs(4));
    publisher.publish(brief.unwrap());
    let other = Caller::new("client");
    let second = other
        .pool
        .connect(&running.addresses[0], None, soon())
        .await;
    let second = second.unwrap();
    publisher.publish(identity("server"));
    proves(&second, "in the first half").await;
    let left = second.peer().not_after.duration_since(SystemTime::now());
    tokio::time::sleep(left.unwrap() / 2 + Duration::from_millis(50)).await;
    let answer = client::request(&second, &other.tokens, request("1"), soon()).await;
    let verified = other
        .tokens
        .verify(&answer.unwrap().id, &second.peer().certificate);
    assert!(
        verified.is_err(),
        "it sees a newer one when it connects again"
    );
}
