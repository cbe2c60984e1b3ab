//! A hop that has lost the tokens of those before it closes what it brought, by the id that it was
//! given; nobody else does.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_api::connection::{Connection, PathSegment};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Tasks, Token,
    begin::Begin,
    elements::{Authorize, Monitor, Neighbour, Table as _, UpdatePath, UpdateToken},
};
use nsm_model::ids::Secret;
use nsm_policy::roles::Place;
use nsm_test_support::{
    Clock, Keys, LIFE, Pipe, Watched, caller, full_request, jwt, order, roles, spiffe,
};
use tokio::time::Instant;

const OWN: &str = "forwarder-1";
const BRINGER: &str = "manager-1";

/// A forwarder to which a manager has brought a client's connection.
struct World {
    clock: Clock,
    keys: Arc<Keys>,
    table: Arc<Watched>,
    chain: Chain<Connections>,
}

/// What somebody calls Close with.
struct Attempt {
    caller: &'static str,
    /// Who signs the caller's token, whom it speaks of, for whom, and until when.
    token: (&'static str, &'static str, &'static str, SystemTime),
    /// The id at our segment.
    id: String,
    index: u32,
    /// The token of the first segment.
    first: String,
}

impl Attempt {
    fn comes_from(&mut self, who: &'static str) {
        self.caller = who;
        (self.token.0, self.token.1) = (who, who);
    }
}

impl World {
    fn new() -> Self {
        let (clock, tasks) = (Clock::default(), Tasks::new());
        let (keys, table) = (Keys::new(OWN, clock), Arc::<Watched>::default());
        let chain = Chain::new(vec![
            Box::new(UpdatePath::new(
                OWN,
                Secret::new([1; 32]),
                spiffe(OWN),
                roles(),
            )) as Box<dyn Element<Connections>>,
            Box::new(UpdateToken::new(keys.clone())),
            Box::new(Authorize::new(keys.clone())),
            Box::new(Neighbour::new(Place::Forwarder, roles(), table.clone())),
            Box::new(Begin::new(tasks)),
            Box::new(Monitor::last(table.clone())),
        ]);
        Self {
            clock,
            keys,
            table,
            chain,
        }
    }

    fn call(&self, who: &str, token: Token) -> Call {
        let caller = caller(&spiffe(who), Arc::new(Pipe::default()));
        Call::from(caller, Some(token), Instant::now() + LIFE)
    }

    /// The id that the forwarder gave to a connection that this manager brought.
    async fn bring(&self, manager: &str) -> String {
        let later = self.clock.now() + LIFE;
        let mut request = order("client", "client-id", "svc", Default::default());
        let connection = request.connection.get_or_insert_default();
        connection.id = format!("{manager}-id");
        let path = connection.path.get_or_insert_default();
        path.index = 1;
        path.path_segments = vec![
            segment(
                "client",
                &jwt(
                    &spiffe("client"),
                    &spiffe("client"),
                    &spiffe(manager),
                    later,
                )
                .jwt,
            ),
            segment(manager, ""),
        ];
        let token = jwt(&spiffe(manager), &spiffe(manager), &spiffe(OWN), later);
        let mut call = self.call(manager, token);
        let answer = self.chain.request(&mut call, request).await.unwrap();
        answer.path.path_segments[2].id.clone()
    }

    /// What a manager that was started again does.
    fn attempt(&self, id: &str) -> Attempt {
        Attempt {
            caller: BRINGER,
            token: (BRINGER, BRINGER, OWN, self.clock.now() + LIFE),
            id: id.to_owned(),
            index: 1,
            first: String::new(),
        }
    }

    async fn close(&self, attempt: Attempt) -> Result<(), Error> {
        let (signer, sub, aud, expires) = attempt.token;
        let token = jwt(&spiffe(signer), &spiffe(sub), &spiffe(aud), expires);
        let mut connection = full_request("client-id", "svc")
            .connection
            .into_option()
            .unwrap();
        let path = connection.path.get_or_insert_default();
        path.index = attempt.index;
        path.path_segments = vec![
            segment("client", &attempt.first),
            segment(attempt.caller, ""),
            PathSegment {
                id: attempt.id,
                ..segment(OWN, "")
            },
        ];
        connection.id = path
            .path_segments
            .get(attempt.index as usize)
            .map_or_else(String::new, |one| one.id.clone());
        let mut call = self.call(attempt.caller, token);
        self.chain.close(&mut call, connection).await
    }
}

fn segment(name: &str, token: &str) -> PathSegment {
    PathSegment {
        name: name.to_owned(),
        id: format!("{name}-id"),
        token: token.to_owned(),
        ..Default::default()
    }
}

/// A Close brings the caller's token whether or not there is one of our own.
#[tokio::test(start_paused = true)]
async fn a_hop_without_an_identity_lets_go() {
    let world = World::new();
    let id = world.bring(BRINGER).await;
    world.keys.break_signing();
    world.close(world.attempt(&id)).await.unwrap();
    assert_eq!(world.table.all(), Vec::<Connection>::new());
}

#[tokio::test(start_paused = true)]
async fn who_brought_a_connection_closes_it_by_its_id() {
    let world = World::new();
    let id = world.bring(BRINGER).await;
    world.close(world.attempt(&id)).await.unwrap();
    assert_eq!(world.table.all(), Vec::<Connection>::new());
}

/// As the Go implementation answers (sdk `pkg/networkservice/common/begin/server.go`): who was
/// started again asks for what has ended meanwhile, and is to stop asking.
#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_closed_and_touches_nothing_else() {
    let world = World::new();
    let (ended, stands) = (world.bring(BRINGER).await, world.bring("manager-2").await);
    world.close(world.attempt(&ended)).await.unwrap();
    let never = "00000000-0000-4000-8000-000000000000";
    for id in [&ended, never] {
        for who in [BRINGER, "manager-2"] {
            let mut attempt = world.attempt(id);
            attempt.comes_from(who);
            world.close(attempt).await.unwrap();
            let left = world.table.all();
            assert_eq!(left.len(), 1, "{who} closed {id}");
            assert!(world.table.get(&stands).is_some(), "{who} closed {id}");
        }
    }
}

type Change = fn(&mut Attempt);

/// Who, how the attempt differs, and a word of the refusal.
const REFUSED: [(&str, Change, Code, &str); 10] = [
    (
        "another manager",
        |one| one.comes_from("manager-2"),
        Code::PermissionDenied,
        "has not brought connection",
    ),
    (
        "another role's identity",
        |one| one.comes_from("forwarder-2"),
        Code::PermissionDenied,
        "has not brought connection",
    ),
    (
        "the client itself, past its manager",
        |one| one.comes_from("client"),
        Code::Unauthenticated,
        "path segment 0",
    ),
    (
        "a path at our own segment",
        |one| one.index = 2,
        Code::PermissionDenied,
        "this hop's own name",
    ),
    (
        "a path beyond its end",
        |one| one.index = 9,
        Code::Unauthenticated,
        "path segment 0",
    ),
    (
        "a path at its highest",
        |one| one.index = u32::MAX,
        Code::Unauthenticated,
        "path segment 0",
    ),
    (
        "a first token that is none",
        |one| one.first = "a.b.c".to_owned(),
        Code::Unauthenticated,
        "path segment 0",
    ),
    (
        "the bringer's name with another's signature",
        |one| one.token.0 = "manager-2",
        Code::Unauthenticated,
        "not signed by",
    ),
    (
        "a token that the bringer made for somebody else",
        |one| one.token.2 = "forwarder-2",
        Code::PermissionDenied,
        "is meant for",
    ),
    (
        "a token of before",
        |one| one.token.3 -= Duration::from_secs(3600),
        Code::PermissionDenied,
        "expired",
    ),
];

#[tokio::test(start_paused = true)]
async fn nobody_else_closes_anything() {
    let world = World::new();
    let id = world.bring(BRINGER).await;
    let other = world.bring("manager-2").await;
    tokio::time::advance(Duration::from_secs(60)).await;
    for (who, change, code, word) in REFUSED {
        let mut attempt = world.attempt(&id);
        change(&mut attempt);
        let refused = world.close(attempt).await;
        let Err(refused) = refused else {
            panic!("{who} was let in");
        };
        assert_eq!(refused.code, code, "{who}: {refused}");
        assert!(refused.message.contains(word), "{who}: {refused}");
        for stands in [&id, &other] {
            assert!(world.table.get(stands).is_some(), "{who} closed {stands}");
        }
    }
}
