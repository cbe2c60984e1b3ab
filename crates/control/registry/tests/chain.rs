//! The two lists: their order, the path, who may do what, and what is let go.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Manual, endpoint, open, query, service, service_of,
    tokens::{Fake, NoDescriptors, REGISTRY, jwt},
};
use nsm_api::{
    connection::{Path, PathSegment},
    registry::NetworkServiceEndpoint,
};
use nsm_chain::{Call, Caller, Chain, Code, Endpoints, Error, Services, Tasks};
use nsm_identity::token::decode_unverified;
use nsm_policy::roles::RoleSource;
use nsm_registry::{
    Clock as _, Registry,
    chain::{LIFETIME, Parts, endpoints, services},
};
use tokio::time::Instant;

const MANAGER: &str = "spiffe://nsm/manager/1";
const A: &str = "spiffe://nsm/a";
const B: &str = "spiffe://nsm/b";

struct Role {
    registry: Registry,
    clock: Manual,
    services: Chain<Services>,
    endpoints: Chain<Endpoints>,
    tasks: Tasks,
}

async fn role() -> Role {
    let (registry, clock) = open().await;
    let tasks = Tasks::new();
    let parts = Parts {
        registry: registry.clone(),
        tokens: Arc::new(Fake(clock.clone())),
        tasks: tasks.clone(),
        lifetime: LIFETIME,
        roles: RoleSource::standard(&"nsm".parse().unwrap()),
    };
    Role {
        services: services(&parts),
        endpoints: endpoints(&parts),
        registry,
        clock,
        tasks,
    }
}

impl Role {
    /// A call that came over these hops, the last of them being who calls now.
    fn call(&self, hops: &[&str]) -> Call {
        let expires = self.clock.now() + Duration::from_secs(300);
        let (caller, before) = hops.split_last().unwrap();
        let caller = Caller {
            id: caller.parse().unwrap(),
            certificate: caller.as_bytes().into(),
            descriptors: Arc::new(NoDescriptors),
        };
        let token = jwt(caller.id.as_str(), REGISTRY, expires);
        let mut call = Call::from(caller, Some(token), Instant::now() + Duration::from_secs(5));
        if !before.is_empty() {
            let segments = before
                .iter()
                .zip(&hops[1..])
                .map(|(sub, aud)| jwt(sub, aud, expires).jwt);
            let segments = segments.chain([String::new()]);
            let path_segments: Vec<_> = segments
                .map(|token| PathSegment {
                    token,
                    ..PathSegment::default()
                })
                .collect();
            let index = u32::try_from(before.len()).unwrap();
            call.path = Path {
                index,
                path_segments,
                ..Path::default()
            };
        }
        call
    }

    async fn register(
        &self,
        hops: &[&str],
        endpoint: NetworkServiceEndpoint,
    ) -> Result<NetworkServiceEndpoint, Error> {
        self.endpoints.request(&mut self.call(hops), endpoint).await
    }
}

fn bare(name: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        ..query("vpn")
    }
}

#[tokio::test]
async fn the_lists_are_in_order() {
    let role = role().await;
    let common = ["updatepath", "updatetoken", "authorize", "relay"];
    let of = |rest: &[&'static str]| [&common, rest].concat();
    assert_eq!(role.services.names(), of(&["setpayload", "memory"]));
    assert_eq!(
        role.endpoints.names(),
        of(&["begin", "setregistrationtime", "expire", "memory"])
    );
}

#[tokio::test]
async fn the_path_names_every_hop() {
    for hops in [
        &[A][..],
        &[A, MANAGER],
        &[A, MANAGER, "spiffe://nsm/manager/2"],
    ] {
        let role = role().await;
        let mut call = role.call(hops);
        let before = call.path.index;
        let mut claimed = bare("nse-1");
        claimed.path_ids = vec![B.to_owned(); 5];
        let answer = role.endpoints.request(&mut call, claimed).await.unwrap();
        let all: Vec<&str> = hops.iter().copied().chain([REGISTRY]).collect();
        assert_eq!(
            answer.path_ids, all,
            "what a message claims of its hops is replaced"
        );
        assert_eq!(call.path.index, before, "the index is the caller's again");
        let subjects: Vec<String> = call
            .path
            .path_segments
            .iter()
            .map(|segment| decode_unverified(&segment.token).unwrap().sub)
            .collect();
        assert_eq!(subjects, all);
    }
}

#[tokio::test]
async fn callers_that_prove_too_little_are_refused() {
    let role = role().await;
    let valid = || role.call(&[A, MANAGER]);
    let stale = jwt(A, MANAGER, role.clock.now() - Duration::from_secs(1)).jwt;
    let other = jwt(A, B, role.clock.now() + Duration::from_secs(60)).jwt;
    type Spoil<'a> = Box<dyn Fn(&mut Call) + 'a>;
    let rows: Vec<(Spoil<'_>, Code, &str)> = vec![
        (
            Box::new(|call| call.token = None),
            Code::Unauthenticated,
            "malformed",
        ),
        (
            Box::new(|call| call.caller.as_mut().unwrap().certificate = B.as_bytes().into()),
            Code::Unauthenticated,
            "somebody else",
        ),
        (
            Box::new(|call| call.path.path_segments[0].token.clone_from(&stale)),
            Code::PermissionDenied,
            "expired",
        ),
        (
            Box::new(|call| call.path.path_segments[0].token.clone_from(&other)),
            Code::PermissionDenied,
            "is meant for",
        ),
        (
            Box::new(|call| call.path.path_segments[0].token.clear()),
            Code::Unauthenticated,
            "path segment 0",
        ),
        (
            Box::new(|call| call.path.index = 9),
            Code::InvalidArgument,
            "index is 9",
        ),
        (
            Box::new(|call| *call = role.call(&[A, B])),
            Code::PermissionDenied,
            "only managers register for others",
        ),
    ];
    for (spoil, code, says) in rows {
        let mut call = valid();
        spoil(&mut call);
        let error = role
            .endpoints
            .request(&mut call, bare("nse-1"))
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{says}: {error}");
        assert!(error.message.contains(says), "{says}: {error}");
        assert!(
            !error.message.contains("ey"),
            "a token in an error: {error}"
        );
    }
    assert_eq!(role.registry.counts::<Endpoints>(), (0, 0));
    assert!(
        role.endpoints
            .request(&mut valid(), bare("nse-1"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn only_the_owner_unregisters() {
    let role = role().await;
    role.register(&[A, MANAGER], bare("nse-1")).await.unwrap();
    let mut claimed = bare("nse-1");
    claimed.path_ids = vec![A.to_owned()];
    let error = role
        .endpoints
        .close(&mut role.call(&[B]), claimed)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
    assert!(
        error.message.contains(A) && error.message.contains(B),
        "{error}"
    );
    assert_eq!(
        role.register(&[B], bare("nse-1")).await.unwrap_err().code,
        Code::PermissionDenied
    );
    role.register(&[A, "spiffe://nsm/manager/2"], bare("nse-1"))
        .await
        .unwrap();
    role.endpoints
        .close(&mut role.call(&[A, MANAGER]), bare("nse-1"))
        .await
        .unwrap();
    role.endpoints
        .close(&mut role.call(&[A, MANAGER]), bare("nse-1"))
        .await
        .unwrap();
    role.register(&[B], bare("nse-1")).await.unwrap();
}

#[tokio::test]
async fn payloads_have_a_default() {
    for (stored, asked, expected) in [
        ("", "", "IP"),
        ("", "ETHERNET", "ETHERNET"),
        ("ETHERNET", "", "ETHERNET"),
    ] {
        let role = role().await;
        if !stored.is_empty() {
            let admin = service_of("vpn", "", stored, 1);
            role.services
                .request(&mut role.call(&["spiffe://nsm/admin"]), admin)
                .await
                .unwrap();
        }
        let mut asks = service("vpn");
        asks.payload = asked.to_owned();
        let answer = role
            .services
            .request(&mut role.call(&[A]), asks)
            .await
            .unwrap();
        assert_eq!(answer.payload, expected);
        assert_eq!(
            role.registry.find::<Services>(&service("vpn"))[0].payload,
            expected
        );
    }
}

#[tokio::test]
async fn endpoints_get_their_times() {
    let role = role().await;
    let seconds =
        |stamp: &buffa_types::google::protobuf::Timestamp| stamp.seconds - role.clock.at(0).seconds;
    // What the endpoint asks for, how long the token lives, what it gets.
    for (name, asks, token, gets) in [
        ("none", None, 300, 60),
        ("less", Some(20), 300, 20),
        ("more", Some(500), 300, 60),
        ("token", None, 30, 30),
    ] {
        let mut call = role.call(&[A]);
        call.token = Some(jwt(
            A,
            REGISTRY,
            role.clock.now() + Duration::from_secs(token),
        ));
        let record = asks.map_or_else(
            || bare(name),
            |asks| endpoint(name, "", "vpn", role.clock.at(asks)),
        );
        let answer = role.endpoints.request(&mut call, record).await.unwrap();
        assert_eq!(seconds(&answer.expiration_time), gets, "{name}");
        assert_eq!(seconds(&answer.initial_registration_time), 0, "{name}");
    }
    let first = role.clock.at(0).seconds;
    role.clock.advance(Duration::from_secs(40));
    let again = role.register(&[A], bare("none")).await.unwrap();
    assert_eq!(seconds(&again.expiration_time), 60);
    assert_eq!(again.initial_registration_time.seconds, first);
    // An earlier answer sent again: its time counts until it has passed.
    for (later, gets) in [(20, 40), (50, 60)] {
        role.clock.advance(Duration::from_secs(later));
        let answer = role.register(&[A], again.clone()).await.unwrap();
        assert_eq!(seconds(&answer.expiration_time), gets);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_endpoint_is_let_go_and_a_renewed_one_stays() {
    let role = role().await;
    for name in ["ended", "renewed"] {
        role.register(&[A], bare(name)).await.unwrap();
    }
    let pass = async |seconds| {
        for _ in 0..seconds {
            role.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    pass(40).await;
    role.register(&[A], bare("renewed")).await.unwrap();
    pass(30).await;
    assert!(role.registry.get::<Endpoints>("ended").is_none());
    assert!(role.registry.get::<Endpoints>("renewed").is_some());
    assert_eq!(role.tasks.len(), 1, "one timer, of the one that is left");
    role.register(&[B], bare("ended")).await.unwrap();
    pass(70).await;
    assert_eq!(
        (role.registry.counts::<Endpoints>(), role.tasks.len()),
        ((0, 0), 0)
    );
}
