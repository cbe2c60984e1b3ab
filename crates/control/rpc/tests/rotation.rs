//! Connections whose SVIDs are replaced, on either side.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::join_all};
use nsm_api::connection::PathSegment;
use nsm_chain::{Chain, Code, Error, elements::UpdateToken};
use nsm_identity::{IdentitySource, token};
use nsm_rpc::{Peer, PeerHandle, Server, TokenSource, client};
use support::{Caller, Does, authority, does, id, identity, request, serve, serve_as, soon, unix};

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
    let element = UpdateToken::new(Arc::new(tokens.clone()));
    // A hop further on leaves what it was sent in our segment: signed with the newest key.
    let further = Does::new(move |_, request| {
        let mut connection = request.connection.into_option().unwrap();
        let now = SystemTime::now();
        let sent = tokens.token(&id("endpoint"), now + Duration::from_secs(60), now);
        let theirs = TokenSource::new(support::source("endpoint"));
        let theirs = theirs.token(&id("server"), now + Duration::from_secs(60), now);
        let path = connection.path.get_or_insert_default();
        path.path_segments[1].token = sent.unwrap().jwt;
        path.path_segments.push(PathSegment {
            token: theirs.unwrap().jwt,
            ..PathSegment::default()
        });
        async move { Ok(connection) }.boxed()
    });
    let chain = Chain::new(vec![Box::new(element) as _, Box::new(further) as _]);
    let folder = tempfile::tempdir().unwrap();
    let addresses = [unix(folder.path())];
    let running = serve_as(source, &addresses, Server::new().connections(chain)).await;
    let proved = async |caller: &Caller, peer: &PeerHandle| {
        let mut request = request("1");
        let path = request
            .connection
            .get_or_insert_default()
            .path
            .get_or_insert_default();
        path.path_segments = vec![PathSegment::default(); 2];
        path.index = 1;
        let answer = client::request(peer, &caller.tokens, request, soon()).await;
        let token = &answer.unwrap().path.path_segments[1].token;
        let claims = caller.tokens.verify(token, &peer.peer().certificate);
        claims.map(|claims| claims.aud).ok()
    };
    let told = Some(vec![id("endpoint").to_string()]);
    let caller = Caller::new("client");
    let first = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await;
    let first = first.unwrap();
    assert_eq!(proved(&caller, &first).await, told, "before");
    for _ in 0..2 {
        publisher.publish(identity("server"));
        assert_eq!(proved(&caller, &first).await, told, "after a rotation");
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
    assert_eq!(proved(&other, &second).await, told, "in the first half");
    let left = second.peer().not_after.duration_since(SystemTime::now());
    tokio::time::sleep(left.unwrap() / 2 + Duration::from_millis(50)).await;
    assert_eq!(
        proved(&other, &second).await,
        None,
        "it connects again for the newer one"
    );
}
