//! Every element of the manager passes the kit, and its lists stand as their pages say.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;

use expect_test::expect;
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Endpoints, Error, Expected, Tasks, Tokens as _,
    begin::Begin,
    elements::Connect,
    kit::{self, Probe},
};
use nsm_manager::{
    Config, Locals, Seams, connections,
    elements::{DiscoverForwarder, LocalBypass, RecvFd},
    endpoints, services,
};
use nsm_model::ids::Secret;
use nsm_policy::roles::Role;
use nsm_test_support::{
    Book, Clock, Keys, LIFE, Pipe, SHARED, Stands, Watched, Wire, caller, endpoint, full_endpoint,
    full_request, jwt, misplaced, namespace, roles, service, spiffe,
};
use tokio::time::Instant;

const URL: &str = "tcp://10.0.0.1:5001";

fn call() -> Call {
    call_of("before")
}

fn call_of(name: &str) -> Call {
    let (before, clock) = (spiffe(name), Clock::default());
    let pipe = Arc::new(Pipe::default());
    pipe.send_file("/dev/null");
    let token = jwt(&before, &before, &spiffe("own"), clock.now() + LIFE);
    Call::from(caller(&before, pipe), Some(token), Instant::now() + LIFE)
}

fn book() -> Arc<Book> {
    let book = Book::default();
    book.add_service(service("svc"));
    book.add(endpoint(
        "forwarder-1",
        "forwarder",
        "unix:///run/forwarder-1",
        &[],
    ));
    Arc::new(book)
}

#[tokio::test(start_paused = true)]
async fn discoverforwarder_conforms() {
    let list = |last: Box<dyn Element<Connections>>| {
        let discover = DiscoverForwarder::new(book(), "forwarder", forwarder());
        Chain::new(vec![
            Box::new(discover) as Box<dyn Element<Connections>>,
            last,
        ])
    };
    let request = full_request("own-id", "svc");
    kit::conform(|probe| list(Box::new(probe)), call, request.clone())
        .await
        .unwrap();
    kit::keeps(list, call, request, |_| {}).await.unwrap();
}

/// What a manager was asking for when it was killed is written down nowhere.
#[tokio::test(start_paused = true)]
async fn what_nobody_here_knows_is_closed_at_this_nodes_forwarders() {
    let at = |number: u8| format!("unix:///run/forwarder-{number}");
    // How many forwarders are registered, how many answer, and what comes of a close.
    for (known, there, answer) in [
        (0, 0, Err(Code::Unavailable)),
        (1, 1, Ok(())),
        (2, 2, Ok(())),
        (1, 0, Err(Code::Unavailable)),
        (2, 1, Err(Code::Unavailable)),
    ] {
        let (book, wire) = (Book::default(), Wire::default());
        for number in 1..=known {
            let name = format!("forwarder-{number}");
            book.add(endpoint(&name, "forwarder", &at(number), &[]));
            wire.attach(&at(number), spiffe(&name), Chain::new(vec![]), None);
            if number > there {
                wire.cut(&at(number));
            }
        }
        let list: Vec<Box<dyn Element<Connections>>> = vec![
            Box::new(DiscoverForwarder::new(
                Arc::new(book),
                "forwarder",
                forwarder(),
            )),
            Box::new(Connect::new(wire.transport(keys()), Tasks::new())),
        ];
        let connection = full_request("own-id", "svc").connection;
        let mut connection = connection.into_option().unwrap();
        // The client's word: nothing of a forwarder.
        let path = connection.path.get_or_insert_default();
        path.path_segments.truncate(path.index as usize + 1);
        let closed = Chain::new(list).close(&mut call(), connection).await;
        let what = format!("{there} of {known}");
        assert_eq!(closed.map_err(|error| error.code), answer, "{what}");
        let mut closes: Vec<String> = wire.take_log();
        closes.retain(|line| line.starts_with("close "));
        let expected: Vec<String> = (1..=there).map(|n| format!("close {}", at(n))).collect();
        assert_eq!(closes, expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn registration_elements_conform() {
    let tasks = Tasks::new();
    let list = |last: Box<dyn Element<Endpoints>>| {
        Chain::new(vec![
            Box::new(Begin::new(tasks.clone())) as Box<dyn Element<Endpoints>>,
            Box::new(RecvFd),
            Box::new(LocalBypass::new(
                Arc::new(Locals::default()),
                URL,
                by_role(),
                keys(),
            )),
            last,
        ])
    };
    let mut request = full_endpoint("nse");
    for url in [request.url.clone(), namespace("/dev/null").0.to_string()] {
        request.url = url;
        kit::conform(|probe| list(Box::new(probe)), call, request.clone())
            .await
            .unwrap();
        kit::keeps(list, call, request.clone(), |one| one.url.clear())
            .await
            .unwrap();
    }
    request.url = namespace("/dev/zero").0.to_string();
    let chain = list(Box::<Probe>::default());
    let error = chain
        .request(&mut call(), request.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(
        error.message.contains("nse") && error.message.contains(&request.url),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_local_from_its_registration_until_its_owner_takes_it_back() {
    // Who closes, what the registry answers, and whether the endpoint is still known here then.
    let table = [
        ("before", Code::Unavailable, false),
        ("before", Code::NotFound, false),
        ("before", Code::PermissionDenied, false),
        ("thief", Code::Unavailable, true),
        ("thief", Code::PermissionDenied, true),
    ];
    for (closer, code, stays) in table {
        let locals = Arc::new(Locals::default());
        let list = |last: Box<dyn Element<Endpoints>>| {
            let bypass = LocalBypass::new(Arc::clone(&locals), URL, by_role(), keys());
            Chain::new(vec![Box::new(bypass) as Box<dyn Element<Endpoints>>, last])
        };
        let refusing = list(Box::new(Probe::failing(Error::new(code, "told to refuse"))));
        refusing
            .request(&mut call(), full_endpoint("nse"))
            .await
            .unwrap_err();
        assert!(locals.get("nse").is_none(), "refused: not local");
        let given = list(Box::<Probe>::default())
            .request(&mut call(), full_endpoint("nse"))
            .await
            .unwrap();
        assert_eq!(
            given.url,
            full_endpoint("nse").url,
            "its own URL comes back"
        );
        assert_eq!(locals.offering("svc").len(), 1);
        refusing
            .close(&mut call_of(closer), full_endpoint("nse"))
            .await
            .unwrap_err();
        assert_eq!(locals.get("nse").is_some(), stays, "{closer} and {code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_stays_local_while_the_registry_is_away() {
    // Who asks again, what comes of asking the registry, and whether it is answered all the same.
    let table = [
        ("before", Code::Unavailable, true),
        ("before", Code::DeadlineExceeded, true),
        ("before", Code::PermissionDenied, false),
        ("before", Code::FailedPrecondition, false),
        ("thief", Code::Unavailable, false),
    ];
    for (caller, code, answered) in table {
        let locals = Arc::new(Locals::default());
        let list = |last: Box<dyn Element<Endpoints>>| {
            let bypass = LocalBypass::new(Arc::clone(&locals), URL, by_role(), keys());
            Chain::new(vec![Box::new(bypass) as Box<dyn Element<Endpoints>>, last])
        };
        list(Box::<Probe>::default())
            .request(&mut call(), full_endpoint("nse"))
            .await
            .unwrap();
        let away = list(Box::new(Probe::failing(Error::new(code, "away"))));
        let answer = away
            .request(&mut call_of(caller), full_endpoint("nse"))
            .await;
        let what = format!("{caller}, {code:?}");
        assert!(locals.get("nse").is_some(), "{what}: it is here");
        match answer {
            Ok(endpoint) => {
                assert!(answered, "{what}");
                assert_eq!(endpoint.url, full_endpoint("nse").url, "{what}");
                let expires = endpoint.expiration_time.as_option().unwrap().seconds;
                let soon = Clock::default().now() + std::time::Duration::from_secs(3);
                let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap();
                assert_eq!(u64::try_from(expires).unwrap(), soon.as_secs(), "{what}");
            }
            Err(error) => {
                assert!(!answered, "{what}");
                assert_eq!(error.code, code, "{what}");
            }
        }
    }
}

/// A node whose forwarder has been away for longer than its registration, with the registry.
#[tokio::test(start_paused = true)]
async fn who_is_new_is_local_while_the_registry_is_away_if_it_forwards() {
    // Who asks, what it offers, what comes of asking the registry, and whether it is let in.
    let table: [(&str, &[&str], Code, bool); 7] = [
        ("forwarder", &["forwarder"], Code::Unavailable, true),
        ("forwarder", &["forwarder"], Code::DeadlineExceeded, true),
        ("forwarder", &["forwarder"], Code::AlreadyExists, false),
        ("forwarder", &["forwarder", "svc"], Code::Unavailable, false),
        ("forwarder", &["svc"], Code::Unavailable, false),
        ("forwarder", &[], Code::Unavailable, false),
        ("thief", &["forwarder"], Code::Unavailable, false),
    ];
    for (caller, services, code, allowed) in table {
        let locals = Arc::new(Locals::default());
        let bypass = LocalBypass::new(Arc::clone(&locals), URL, by_role(), keys());
        let away = Probe::failing(Error::new(code, "away"));
        let chain = Chain::new(vec![
            Box::new(bypass) as Box<dyn Element<Endpoints>>,
            Box::new(away),
        ]);
        let mut record = full_endpoint("nse");
        record.network_service_names = services.iter().map(ToString::to_string).collect();
        let url = record.url.clone();
        let done = chain.request(&mut call_of(caller), record).await;
        let what = format!("{caller} as {services:?}, {code:?}");
        assert_eq!(done.is_ok(), allowed, "{what}");
        let local = locals.get("nse").map(|local| local.endpoint.url);
        assert_eq!(local, allowed.then_some(url), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_forwarders_register_as_forwarders() {
    for (caller, service, allowed) in [
        ("forwarder", "forwarder", true),
        ("thief", "forwarder", false),
        ("thief", "svc", true),
    ] {
        let locals = Arc::new(Locals::default());
        let bypass = LocalBypass::new(Arc::clone(&locals), URL, by_role(), keys());
        let chain = Chain::new(vec![Box::new(bypass) as Box<dyn Element<Endpoints>>]);
        let mut record = full_endpoint("nse");
        record.network_service_names = vec![service.to_owned()];
        let done = chain.request(&mut call_of(caller), record).await;
        assert_eq!(done.is_ok(), allowed, "{caller} as {service}");
        assert_eq!(
            locals.get("nse").is_some(),
            allowed,
            "{caller} as {service}"
        );
        if let Err(error) = done {
            assert_eq!(error.code, Code::PermissionDenied);
            assert!(error.message.contains("thief"), "{error}");
        }
    }
}

fn forwarder() -> Expected {
    Expected::role(&roles(), &[Role::Forwarder])
}

/// What the manager's own elements' pages say.
const OWN: &[Stands<'static>] = &[
    ("discoverforwarder", &["clientinfo"], &["connect"]),
    ("localbypass", &["recvfd"], &["connect"]),
    ("clientinfo", &[], &["connect"]),
];

/// The registry stands last.
struct Last;

#[async_trait::async_trait]
impl<K: nsm_chain::Kind> Element<K> for Last {
    fn name(&self) -> &'static str {
        "connect"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: nsm_chain::Next<K>,
    ) -> Result<K::Item, Error> {
        next.request(call, request).await
    }
}

#[tokio::test]
async fn the_lists_stand_in_order() {
    let keys = Keys::new("own", Clock::default());
    assert_eq!(keys.own_id(), spiffe("own"));
    let seams = Seams {
        journals: Default::default(),
        drained: Default::default(),
        secret: Secret::new([1; 32]),
        tokens: keys.clone(),
        transport: Wire::default().transport(keys),
        directory: book(),
        table: Arc::new(Watched::default()),
        tasks: Tasks::new(),
        known: Default::default(),
    };
    let config = Config {
        name: "own".to_owned(),
        url: URL.to_owned(),
        forwarders: by_role(),
        info: Default::default(),
    };
    let connections = connections(&config, &seams).names();
    expect!["updatepath updatetoken authorize neighbour begin drain timeout monitor clientinfo recvfd discoverforwarder connect"]
        .assert_eq(&connections.join(" "));
    let services = services(&config, &seams, Box::new(Last)).names();
    expect!["updatepath updatetoken authorize relay connect"].assert_eq(&services.join(" "));
    let endpoints = endpoints(&config, &seams, Arc::default(), Box::new(Last)).names();
    expect![
        "updatepath updatetoken authorize relay drain begin timeout clientinfo recvfd localbypass connect"
    ]
    .assert_eq(&endpoints.join(" "));
    for names in [connections, services, endpoints] {
        assert_eq!(misplaced(&names, SHARED), [""; 0]);
        assert_eq!(misplaced(&names, OWN), [""; 0]);
    }
}

/// Forwarders by their standard names.
fn keys() -> Arc<Keys> {
    Keys::new("own", Clock::default())
}

fn by_role() -> nsm_manager::elements::Forwarders {
    nsm_manager::elements::Forwarders {
        service: "forwarder".to_owned(),
        roles: roles(),
    }
}
