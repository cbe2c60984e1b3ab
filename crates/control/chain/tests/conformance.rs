//! Every shared element passes the kit, for each kind of request that it carries.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;

use nsm_api::{
    connection::{Connection, Mechanism, PathSegment, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Connections, Element, Endpoints, Kind, Own, Services, Target, Tasks, Tokens as _,
    begin::Begin,
    elements::{
        Authorize, ClientInfo, Connect, Monitor, RecvFd, Timeout, TrimPath, UpdatePath,
        UpdateToken, timestamp,
    },
    kit,
};
use nsm_model::{
    ids::{ConnectionKey, Secret},
    url::EndpointUrl,
};
use nsm_test_support::{
    Clock, Keys, LIFE, Pipe, Watched, Wire, caller, full_endpoint, full_request, full_service, jwt,
    namespace, roles, spiffe,
};
use tokio::time::Instant;

/// Builds the elements of a row.
type Elements<K> = Box<dyn Fn(&World) -> Vec<Box<dyn Element<K>>>>;

struct World {
    keys: Arc<Keys>,
    tasks: Tasks,
    wire: Wire,
    table: Arc<Watched>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::default();
        Self {
            keys: Keys::new("own", clock),
            tasks: Tasks::new(),
            wire: Wire::default(),
            table: Arc::default(),
        }
    }

    /// A call of the hop before ours, in the middle of a list.
    fn call(&self) -> Call {
        let pipe = Arc::new(Pipe::default());
        pipe.send_file("/dev/null");
        let before = spiffe("before");
        let token = jwt(&before, &before, &spiffe("own"), self.keys.now() + LIFE);
        let mut call = Call::from(caller(&before, pipe), Some(token), Instant::now() + LIFE);
        call.own = Some(Own {
            key: ConnectionKey {
                owner: before,
                id: "before-id".to_owned(),
            },
            id: "own-id".to_owned(),
            index: 1,
        });
        call.path.path_segments = vec![segment("before", "before"), segment("own", "own")];
        call.path.index = 1;
        call
    }
}

fn segment(name: &str, id: &str) -> PathSegment {
    PathSegment {
        name: name.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    }
}

/// What the kit asks of a list: it conforms, and keeps what is not its own.
async fn check<K: Kind>(
    name: &str,
    elements: Elements<K>,
    request: K::Request,
    own: impl Fn(&mut K::Request),
) where
    K::Request: PartialEq,
{
    let world = World::new();
    let list = |last: Box<dyn Element<K>>| {
        let mut list = elements(&world);
        list.push(last);
        Chain::new(list)
    };
    let call = || world.call();
    kit::conform(|probe| list(Box::new(probe)), call, request.clone())
        .await
        .unwrap_or_else(|why| panic!("{name} of {}s: {why}", K::NAME));
    // A probe leaves entries of its own: a second list, fresh.
    kit::keeps(list, call, request, own)
        .await
        .unwrap_or_else(|why| panic!("{name} of {}s: {why}", K::NAME));
    world.tasks.shutdown(LIFE).await;
}

fn connection(request: &mut NetworkServiceRequest) -> &mut Connection {
    request.connection.get_or_insert_default()
}

/// Tokens and expiry of every segment.
fn no_tokens(request: &mut NetworkServiceRequest) {
    for segment in &mut connection(request)
        .path
        .get_or_insert_default()
        .path_segments
    {
        segment.token.clear();
        segment.expires = buffa::MessageField::none();
    }
}

#[tokio::test(start_paused = true)]
async fn elements_of_every_kind() {
    // What is the same for connections, services and endpoints, a row each.
    macro_rules! every_kind {
        ($($name:literal: $elements:expr, $own:expr;)*) => {$(
            check::<Connections>($name, Box::new($elements), full_request("own-id", "svc"), $own).await;
            check::<Services>($name, Box::new($elements), full_service("svc"), |_| {}).await;
            check::<Endpoints>($name, Box::new($elements), full_endpoint("nse"), |_| {}).await;
        )*};
    }
    every_kind! {
        "begin": |w: &World| vec![Box::new(Begin::new(w.tasks.clone())) as _], |_| {};
        "updatetoken": |w: &World| vec![Box::new(UpdateToken::new(w.keys.clone())) as _], no_tokens;
        "authorize": |w: &World| vec![
            Box::new(UpdateToken::new(w.keys.clone())) as _,
            Box::new(Authorize::new(w.keys.clone())) as _,
        ], no_tokens;
        "timeout": |w: &World| vec![
            Box::new(Begin::new(w.tasks.clone())) as _,
            Box::new(Timeout::new(w.keys.clone(), w.tasks.clone())) as _,
        ], |_| {};
    }
}

fn labels() -> ClientInfo {
    ClientInfo::new([("nodeName".to_owned(), "node-1".to_owned())].into())
}

#[tokio::test(start_paused = true)]
async fn elements_of_endpoints() {
    check::<Endpoints>(
        "clientinfo",
        Box::new(|_| vec![Box::new(labels())]),
        full_endpoint("nse"),
        |one| {
            for labels in one.network_service_labels.values_mut() {
                labels.labels.remove("nodeName");
            }
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn elements_of_connections() {
    let request = || full_request("own-id", "svc");
    let row = |name, elements: Elements<Connections>, own: fn(&mut NetworkServiceRequest)| {
        check::<Connections>(name, elements, request(), own)
    };
    row(
        "clientinfo",
        Box::new(|_| vec![Box::new(labels())]),
        |one| {
            connection(one).labels.remove("nodeName");
        },
    )
    .await;
    row("recvfd", Box::new(|_| vec![Box::new(RecvFd)]), |_| {}).await;
    row("trimpath", Box::new(|_| vec![Box::new(TrimPath)]), |_| {}).await;
    row(
        "monitor",
        Box::new(|w| vec![Box::new(Monitor::last(w.table.clone()))]),
        |one| connection(one).state = State::UP.into(),
    )
    .await;
    // The hop "far", called by "own": its segment is the third.
    let far = |w: &World| -> Vec<Box<dyn Element<Connections>>> {
        vec![Box::new(UpdatePath::new(
            "far",
            Secret::new([1; 32]),
            w.keys.own_id(),
            roles(),
        ))]
    };
    let mut second = request();
    let path = connection(&mut second).path.get_or_insert_default();
    let token = jwt(
        &spiffe("before"),
        &spiffe("before"),
        &spiffe("own"),
        Clock::default().now() + LIFE,
    );
    path.path_segments[0].token = token.jwt;
    path.path_segments[0].expires = buffa::MessageField::some(timestamp(token.expires));
    check::<Connections>("updatepath", Box::new(far), second, |one| {
        let connection = connection(one);
        connection.id.clear();
        let path = connection.path.get_or_insert_default();
        path.index = 0;
        path.path_segments.truncate(2);
    })
    .await;
}

/// `recvfd` with a descriptor that came, and with one that did not.
#[tokio::test(start_paused = true)]
async fn recvfd_takes_what_was_sent_and_names_what_was_not() {
    let world = World::new();
    let chain = Chain::new(vec![Box::new(RecvFd) as Box<dyn Element<Connections>>]);
    let mut request = full_request("own-id", "svc");
    let mechanism = |path: &str| Mechanism {
        parameters: [("inodeURL".to_owned(), namespace(path).0.to_string())].into(),
        ..Default::default()
    };
    request.mechanism_preferences = vec![mechanism("/dev/null")];
    chain
        .request(&mut world.call(), request.clone())
        .await
        .unwrap();
    request.mechanism_preferences = vec![mechanism("/dev/zero")];
    let error = chain.request(&mut world.call(), request).await.unwrap_err();
    let inode = namespace("/dev/zero").0.to_string();
    assert!(
        error.message.contains(&inode) && error.message.contains("own-id"),
        "{error}"
    );
}

/// Chooses the next hop.
struct To(&'static str);

#[async_trait::async_trait]
impl Element<Connections> for To {
    fn name(&self) -> &'static str {
        "to"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: nsm_chain::Next<Connections>,
    ) -> Result<Connection, nsm_chain::Error> {
        call.scratch.put(Target::Url(EndpointUrl::parse(self.0)));
        next.request(call, request).await
    }

    async fn close(
        &self,
        call: &mut Call,
        item: Connection,
        next: nsm_chain::Next<Connections>,
    ) -> Result<(), nsm_chain::Error> {
        call.scratch.put(Target::Url(EndpointUrl::parse(self.0)));
        next.close(call, item).await
    }
}

/// What comes after `connect` is another process: the probe stands there.
#[tokio::test(start_paused = true)]
async fn connect_to_a_peer_in_memory() {
    const URL: &str = "tcp://10.0.0.9:5001";
    let world = World::new();
    let here = || {
        let connect = Connect::new(
            world.wire.transport(world.keys.clone()),
            world.tasks.clone(),
        );
        Chain::new(vec![
            Box::new(Begin::new(world.tasks.clone())) as Box<dyn Element<Connections>>,
            Box::new(To(URL)),
            Box::new(connect),
        ])
    };
    let list = |last: Box<dyn Element<Connections>>| {
        world
            .wire
            .attach(URL, spiffe("far"), Chain::new(vec![last]), None);
        here()
    };
    let call = || world.call();
    let request = full_request("own-id", "svc");
    kit::conform(|probe| list(Box::new(probe)), call, request.clone())
        .await
        .unwrap();
    let error = {
        world.wire.cut(URL);
        here()
            .request(&mut call(), request.clone())
            .await
            .unwrap_err()
    };
    assert_eq!(error.blame, nsm_chain::Blame::NextHop);
    assert!(error.message.contains(URL), "{error}");
}
