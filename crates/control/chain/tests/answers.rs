//! `connect`: whose answers count.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use expect_test::{Expect, expect};
use nsm_api::{
    connection::{Connection, MonitorScopeSelector, PathSegment},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Blame, Call, Chain, Code, Connections, Descriptors, Element, Error, Events, Hop, Own, Target,
    Tasks, Transport,
    elements::{Answers, Connect, Downstream},
};
use nsm_model::{ids::ConnectionKey, spiffe::SpiffeId};
use nsm_test_support::{Clock, Keys, LIFE, Pipe, full_request, jwt, spiffe};
use tokio::time::Instant;

/// A peer that answers with one path, and renews its certificate when it is connected to again.
#[derive(Clone)]
struct Peer {
    id: SpiffeId,
    /// Whose key each connection shows: the first one, then the next.
    shown: Arc<Mutex<Vec<&'static str>>>,
    certificate: String,
    path: Vec<(&'static str, String)>,
    closed: Arc<AtomicUsize>,
    pipe: Arc<Pipe>,
}

#[async_trait]
impl Transport for Peer {
    async fn connect(&self, _: &Target, _: Instant) -> Result<Arc<dyn Hop>, Error> {
        let mut peer = self.clone();
        let shown = self.shown.lock().unwrap();
        peer.certificate = spiffe(shown[0]).to_string();
        Ok(Arc::new(peer))
    }
}

#[async_trait]
impl Hop for Peer {
    fn peer(&self) -> &SpiffeId {
        &self.id
    }

    fn certificate(&self) -> &[u8] {
        self.certificate.as_bytes()
    }

    fn retire(&self) {
        let mut shown = self.shown.lock().unwrap();
        if shown.len() > 1 {
            shown.remove(0);
        }
    }

    async fn request(
        &self,
        request: NetworkServiceRequest,
        _: Instant,
    ) -> Result<Connection, Error> {
        let mut answer = request.connection.into_option().unwrap();
        let path = answer.path.get_or_insert_default();
        let segments = self.path.iter().map(|(name, token)| PathSegment {
            name: (*name).to_owned(),
            token: token.clone(),
            ..Default::default()
        });
        path.path_segments = segments.collect();
        // What an answer says of our place is not believed.
        path.index = 0;
        Ok(answer)
    }

    async fn close(&self, _: Connection, _: Instant) -> Result<(), Error> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn monitor(&self, _: MonitorScopeSelector) -> Result<Events, Error> {
        Err(Error::new(Code::Unimplemented, "nobody watches"))
    }

    fn descriptors(&self) -> &dyn Descriptors {
        self.pipe.as_ref()
    }

    async fn lost(&self) {
        std::future::pending().await
    }
}

/// An answer to "own", whose segment is the second: "client", "own", "next", "far".
struct Row {
    clock: Clock,
    peer: Peer,
}

impl Row {
    fn good() -> Self {
        let clock = Clock::default();
        let token = |who: &'static str, aud| (who, sealed(clock, who, who, aud));
        let path = vec![
            token("client", "own"),
            token("own", "next"),
            token("next", "far"),
            token("far", "next"),
        ];
        let peer = Peer {
            id: spiffe("next"),
            shown: Arc::new(Mutex::new(vec!["next"])),
            certificate: String::new(),
            path,
            closed: Arc::default(),
            pipe: Arc::default(),
        };
        Self { clock, peer }
    }

    /// What the request is answered, and how often the peer was told to let go.
    async fn verdict(&self) -> (Result<(), Error>, usize) {
        let keys = Keys::new("own", self.clock);
        let transport = Arc::new(self.peer.clone());
        let connect = Connect::new(transport, Tasks::new()).authorized(Answers::new(keys));
        let chain = Chain::new(vec![Box::new(connect) as Box<dyn Element<Connections>>]);
        let mut call = Call::local(Instant::now() + LIFE);
        call.own = Some(Own {
            key: ConnectionKey {
                owner: spiffe("client"),
                id: "id".to_owned(),
            },
            id: "own-id".to_owned(),
            index: 1,
        });
        call.scratch
            .put(Target::Url("tcp://127.0.0.1:1".parse().unwrap()));
        let asked = chain
            .request(&mut call, full_request("own-id", "svc"))
            .await;
        let stored = call.store.get::<Downstream>();
        assert_eq!(stored.is_some(), asked.is_ok());
        tokio::time::sleep(LIFE).await;
        (asked.map(drop), self.peer.closed.load(Ordering::SeqCst))
    }
}

fn sealed(clock: Clock, signer: &str, sub: &str, aud: &str) -> String {
    jwt(
        &spiffe(signer),
        &spiffe(sub),
        &spiffe(aud),
        clock.now() + LIFE,
    )
    .jwt
}

async fn check(change: impl FnOnce(&mut Row), expected: &Expect) {
    let mut row = Row::good();
    change(&mut row);
    let (verdict, closed) = row.verdict().await;
    match verdict {
        Ok(()) => {
            assert_eq!(closed, 0);
            expected.assert_eq("ok");
        }
        Err(error) => {
            assert_eq!((error.blame, closed), (Blame::Peer, 1), "{error}");
            expected.assert_eq(&format!("{:?}: {error}", error.code));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_hop_proves_counts() {
    check(|_| {}, &expect!["ok"]).await;
    // The last hop's token is for us.
    check(
        |row| {
            row.peer.path.truncate(2);
            let token = sealed(row.clock, "next", "next", "own");
            row.peer.path.push(("next", token));
        },
        &expect!["ok"],
    )
    .await;
    // Its SVID was renewed since we connected.
    check(
        |row| row.peer.shown = Arc::new(Mutex::new(vec!["next-before", "next"])),
        &expect!["ok"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_hop_cannot_prove_is_refused_and_closed() {
    check(|row| row.peer.path.truncate(2), &expect!["PermissionDenied: spiffe://nsm.test/next answered without a path segment of its own after ours"]).await;
    check(
        |row| row.peer.path[2].1 = sealed(row.clock, "thief", "next", "far"),
        &expect![[r#"Unauthenticated: spiffe://nsm.test/next: the token of "spiffe://nsm.test/next" is not signed by spiffe://nsm.test/next"#]],
    )
    .await;
    check(
        |row| row.peer.path[2].1 = sealed(row.clock, "next", "far", "far"),
        &expect!["PermissionDenied: spiffe://nsm.test/next sent a token of spiffe://nsm.test/far"],
    )
    .await;
    // A token that the hop once sent to another.
    check(
        |row| {
            row.peer.path.truncate(2);
            let token = sealed(row.clock, "next", "next", "other");
            row.peer.path.push(("next", token));
        },
        &expect![[r#"PermissionDenied: the token of spiffe://nsm.test/next is meant for ["spiffe://nsm.test/other"], not for spiffe://nsm.test/own"#]],
    )
    .await;
    check(
        |row| row.peer.path[1].1 = sealed(row.clock, "next", "other", "next"),
        &expect![[r#"PermissionDenied: path segment own: the token before it, of spiffe://nsm.test/client, is meant for ["spiffe://nsm.test/own"], not for spiffe://nsm.test/other"#]],
    )
    .await;
    check(
        |row| row.peer.path[3].1 = sealed(row.clock, "next", "elsewhere", "next"),
        &expect![[r#"PermissionDenied: path segment far: the token before it, of spiffe://nsm.test/next, is meant for ["spiffe://nsm.test/far"], not for spiffe://nsm.test/elsewhere"#]],
    )
    .await;
    check(|row| row.peer.path[3].1 = "a.b.c".to_owned(), &expect!["PermissionDenied: token of path segment far: the token is malformed: header: Invalid input length: 1"]).await;
    check(
        |row| {
            let ago = row.clock.now() - LIFE;
            row.peer.path[3].1 = jwt(&spiffe("far"), &spiffe("far"), &spiffe("next"), ago).jwt;
        },
        &expect![[r#"PermissionDenied: token of path segment far: the token of "spiffe://nsm.test/far" expired at 2023-11-14T22:03:20Z, 10m ago; refresh it, or set the clocks of both sides"#]],
    )
    .await;
}
