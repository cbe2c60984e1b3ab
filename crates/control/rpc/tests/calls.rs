//! What travels with a call and comes back, through real services on a real socket.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use buffa::Message as _;
use futures_util::{FutureExt as _, StreamExt as _};
use nsm_api::{
    connection::{Connection, ConnectionEventType, MonitorScopeSelector, Path, PathSegment},
    registry::{
        NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
        NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
    },
};
use nsm_chain::{Call, Chain, Code, Element, Endpoints, Error, Kind, Next, Services};
use nsm_identity::IdentitySource;
use nsm_rpc::{Answers, Find, Server, TokenSource, client, health, monitor};
use support::{
    Caller, Running, does, echo, free_port, id, request, serve, serve_as, soon, source, unix,
};
use tokio::time::Instant;

async fn start(server: Server) -> (tempfile::TempDir, Running, Caller, nsm_rpc::PeerHandle) {
    let folder = tempfile::tempdir().unwrap();
    let running = serve("manager", &[unix(folder.path())], server).await;
    let caller = Caller::new("client");
    let peer = caller
        .pool
        .connect(&running.addresses[0], None, soon())
        .await
        .unwrap();
    (folder, running, caller, peer)
}

#[tokio::test]
async fn caller_token_and_deadline_arrive() {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let chain = does(move |call, request| {
        let left = call.deadline.duration_since(Instant::now());
        *keep.lock().unwrap() = Some((
            call.caller.clone().unwrap(),
            call.token.clone().unwrap(),
            left,
        ));
        async move { Ok((*request.connection).clone()) }.boxed()
    });
    let (_folder, _running, caller, peer) = start(Server::new().connections(chain)).await;
    for limit in [
        Duration::from_millis(700),
        Duration::from_secs(40),
        Duration::from_secs(300),
    ] {
        client::request(&peer, &caller.tokens, request("1"), Instant::now() + limit)
            .await
            .unwrap();
        let (who, token, left) = seen.lock().unwrap().take().unwrap();
        assert_eq!(who.id, id("client"));
        assert!(
            left <= limit && left > limit - Duration::from_millis(500),
            "{left:?} of {limit:?}"
        );
        let claims = nsm_identity::token::verify(&token.jwt, &who.certificate).unwrap();
        assert_eq!(
            (claims.sub, claims.aud),
            (id("client").to_string(), vec![id("manager").to_string()])
        );
    }
    let past = client::request(&peer, &caller.tokens, request("1"), Instant::now()).await;
    assert_eq!(past.unwrap_err().code, Code::DeadlineExceeded);
    assert!(seen.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_a_panic_with_its_call() {
    let chain = does(|_, request| {
        async move {
            match request.connection.id.as_str() {
                "panics" => panic!("as asked"),
                "fails" => Err(Error::new(Code::FailedPrecondition, "the first cause")),
                _ => std::future::pending().await,
            }
        }
        .boxed()
    });
    let (_folder, _running, caller, peer) = start(Server::new().connections(chain)).await;
    for (id, limit, code, says) in [
        ("panics", 10_000, Code::Internal, "fault of this program"),
        ("fails", 10_000, Code::FailedPrecondition, "the first cause"),
        ("hangs", 200, Code::DeadlineExceeded, ""),
    ] {
        let deadline = Instant::now() + Duration::from_millis(limit);
        let error = client::request(&peer, &caller.tokens, request(id), deadline)
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test]
async fn unknown_fields_survive() {
    let (_folder, _running, caller, peer) = start(Server::new().connections(echo())).await;
    let mut asked = request("1");
    // Field 1 (connection): id "1" and an unknown field 200 with text "future".
    let connection = [&b"\x0a\x011"[..], &[0xc2, 0x0c, 6], b"future"].concat();
    asked.connection =
        buffa::MessageField::some(Connection::decode_from_slice(&connection).unwrap());
    let answer = client::request(&peer, &caller.tokens, asked, soon())
        .await
        .unwrap();
    assert_eq!(answer.encode_to_vec(), connection);
    client::close(&peer, &caller.tokens, answer, soon())
        .await
        .unwrap();
}

/// Puts the caller's token and one of its own into the path, as `updatetoken` does; or nothing.
struct Proves(Option<TokenSource>);

impl Proves {
    fn write(&self, call: &mut Call) {
        let Some(tokens) = &self.0 else { return };
        let (caller, theirs) = (call.caller.as_ref().unwrap(), call.token.as_ref().unwrap());
        let now = SystemTime::now();
        let ours = tokens.token(&caller.id, now + Duration::from_secs(60), now);
        let tokens = [theirs.jwt.clone(), ours.unwrap().jwt];
        call.path.path_segments = tokens
            .map(|token| PathSegment {
                token,
                ..PathSegment::default()
            })
            .to_vec();
    }
}

#[async_trait]
impl<K: Kind> Element<K> for Proves {
    fn name(&self) -> &'static str {
        "proves"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        self.write(call);
        next.request(call, request).await
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        self.write(call);
        next.close(call, item).await
    }
}

struct Finds;

#[async_trait]
impl Find<Services> for Finds {
    async fn find(
        &self,
        _: Call,
        query: NetworkServiceQuery,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let name = query.network_service.name.clone();
        if name == "none" {
            return Err(Error::new(Code::NotFound, "no such service"));
        }
        let found = NetworkService {
            name,
            ..NetworkService::default()
        };
        let found = NetworkServiceResponse {
            network_service: buffa::MessageField::some(found),
            ..NetworkServiceResponse::default()
        };
        Ok(Box::pin(futures_util::stream::iter([
            Ok(found.clone()),
            Ok(found),
        ])))
    }
}

#[async_trait]
impl Find<Endpoints> for Finds {
    async fn find(
        &self,
        _: Call,
        _: NetworkServiceEndpointQuery,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let fails = Err(Error::new(Code::ResourceExhausted, "too slow"));
        Ok(Box::pin(futures_util::stream::iter([
            Ok(NetworkServiceEndpointResponse::default()),
            fails,
        ])))
    }
}

fn registry(tokens: Option<TokenSource>) -> Server {
    Server::new()
        .services(Chain::new(vec![Box::new(Proves(tokens.clone()))]), Finds)
        .endpoints(Chain::new(vec![Box::new(Proves(tokens))]), Finds)
}

/// A registry with these keys whose answers are proved with those.
async fn proving(shown: IdentitySource, proved: Option<IdentitySource>) -> (Running, Caller) {
    let server = registry(proved.map(TokenSource::new));
    let running = serve_as(shown, &[free_port()], server).await;
    (running, Caller::new("client"))
}

#[tokio::test]
async fn the_registry_and_its_path() {
    let keys = source("manager");
    let (running, caller) = proving(keys.clone(), Some(keys)).await;
    let url = &running.addresses[0];
    let peer = caller.pool.connect(url, None, soon()).await.unwrap();
    let mut path = Path::default();
    let endpoint = NetworkServiceEndpoint {
        name: "nse-1".to_owned(),
        ..Default::default()
    };
    let answer =
        client::endpoints::register(&peer, &caller.tokens, endpoint.clone(), &mut path, soon())
            .await;
    assert_eq!(answer.unwrap(), endpoint);
    assert_eq!(path.path_segments.len(), 2);
    client::endpoints::unregister(&peer, &caller.tokens, endpoint, &mut path, soon())
        .await
        .unwrap();
    let service = NetworkService {
        name: "vpn".to_owned(),
        ..Default::default()
    };
    client::services::register(&peer, &caller.tokens, service.clone(), &mut path, soon())
        .await
        .unwrap();
    client::services::unregister(&peer, &caller.tokens, service, &mut path, soon())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_registration_that_nobody_proves_does_not_count() {
    let keys = source("manager");
    let own = "answered without a path segment of its own";
    // What the registry proves its answers with, what is said, and whether it is asked anew.
    for (proved, says, anew) in [
        (None, own, false),
        (Some(source("manager")), "is not signed by", true),
        (Some(source("thief")), "is not signed by", true),
    ] {
        let (running, caller) = proving(keys.clone(), proved).await;
        let url = &running.addresses[0];
        let peer = caller.pool.connect(url, None, soon()).await.unwrap();
        let item = NetworkService::default();
        let path = &mut Path::default();
        let answer = client::services::register(&peer, &caller.tokens, item, path, soon()).await;
        let error = answer.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated);
        assert!(error.message.contains(says), "{error}");
        assert_eq!(peer.is_retired(), anew, "{error}");
    }
}

#[tokio::test]
async fn the_registry_finds() {
    let (_folder, _running, caller, peer) = start(registry(None)).await;
    let query = |name: &str| NetworkServiceQuery {
        network_service: buffa::MessageField::some(NetworkService {
            name: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let found = client::services::find(&peer, &caller.tokens, query("vpn"), soon())
        .await
        .unwrap();
    let names: Vec<_> = found
        .map(|one| one.unwrap().network_service.name.clone())
        .collect()
        .await;
    assert_eq!(names, ["vpn", "vpn"]);
    let error = client::services::find(&peer, &caller.tokens, query("none"), soon())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::NotFound, "no such service")
    );
    let all = NetworkServiceEndpointQuery::default();
    let mut found = client::endpoints::find(&peer, &caller.tokens, all, soon())
        .await
        .unwrap();
    assert!(found.next().await.unwrap().is_ok());
    assert_eq!(
        found.next().await.unwrap().unwrap_err().code,
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn health_knows_every_service() {
    let table = monitor::Connections::new();
    let server = registry(None)
        .connections(echo())
        .monitor(monitor::Service::new(table, |_| true));
    let (_folder, _running, _caller, peer) = start(server).await;
    for name in [
        "",
        "networkservice.NetworkService",
        "connection.MonitorConnection",
        "registry.NetworkServiceRegistry",
        "registry.NetworkServiceEndpointRegistry",
    ] {
        health::check(&peer, name, soon()).await.unwrap();
    }
    let error = health::check(&peer, "ipam.IPAM", soon()).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

#[tokio::test]
async fn monitors_over_the_wire() {
    let table = monitor::Connections::new();
    let service = monitor::Service::new(table.clone(), |caller| *caller == id("operator"));
    let (_folder, running, caller, peer) = start(Server::new().monitor(service)).await;
    let all = MonitorScopeSelector::default();
    let mut events = client::monitor(&peer, &caller.tokens, all, soon())
        .await
        .unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.r#type, ConnectionEventType::INITIAL_STATE_TRANSFER);
    assert!(first.connections.is_empty());
    let of = |own: &str| Connection {
        id: own.into(),
        path: buffa::MessageField::some(Path {
            path_segments: vec![PathSegment {
                id: own.into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    table.show("0", vec![id("other")]);
    table.update(of("0"));
    for (who, named, seen) in [
        ("client", "0", None),
        ("client", "unknown", Some(0)),
        ("client", "", Some(0)),
        ("other", "0", Some(1)),
        ("operator", "0", Some(1)),
        ("operator", "", Some(1)),
    ] {
        let caller = Caller::new(who);
        let peer = caller.pool.connect(&running.addresses[0], None, soon());
        let peer = peer.await.unwrap();
        let named = PathSegment {
            id: named.into(),
            ..Default::default()
        };
        let selector = MonitorScopeSelector {
            path_segments: vec![named],
            ..Default::default()
        };
        let first = client::monitor(&peer, &caller.tokens, selector, soon()).await;
        let first = match first {
            Ok(mut events) => events.next().await.unwrap(),
            Err(error) => Err(error),
        };
        match (first, seen) {
            (Ok(event), Some(seen)) => assert_eq!(event.connections.len(), seen, "{who}"),
            (Err(error), None) => assert_eq!(error.code, Code::PermissionDenied, "{error}"),
            (said, _) => panic!("{who}: {said:?}"),
        }
    }
    table.show("1", vec![id("client")]);
    table.update(Connection {
        id: "1".into(),
        ..Default::default()
    });
    table.delete("1");
    for kind in [ConnectionEventType::UPDATE, ConnectionEventType::DELETE] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.r#type, kind);
        assert_eq!(event.connections.keys().collect::<Vec<_>>(), ["1"]);
    }
    assert_eq!(table.subscribers(), 1);
    drop(running);
    let end = events.next().await.unwrap().unwrap_err();
    assert_eq!(end.code, Code::Unavailable, "{end}");
}
