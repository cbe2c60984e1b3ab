//! Every element of clients and endpoints passes the kit, and their lists stand as their pages say.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use expect_test::expect;
use nsm_api::{
    connection::State, connectioncontext::DNSConfig, networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Own, Target, Tasks, Tokens as _, begin::Begin,
    elements::Connect, kit,
};
use nsm_model::{
    ids::{ConnectionKey, Secret},
    ipam::PointToPoint,
    url::EndpointUrl,
};
use nsm_sdk::{
    Blind, Client, Endpoint, Kind, Namespace, Parts,
    elements::{
        DnsContext, Heal, Ipam, Joined, Joiner, Mechanisms, Passthrough, Prefixes, Refresh, SendFd,
        ToManager,
    },
};
use nsm_test_support::{
    Clock, Keys, LIFE, Pipe, SHARED, Stands, Watched, Wire, caller, full_request, jwt, misplaced,
    namespace, roles, spiffe,
};
use tokio::time::Instant;

const MANAGER: &str = "tcp://10.0.0.1:5001";

/// Joins nothing, or refuses to.
struct Glue(bool);

#[async_trait]
impl Joiner for Glue {
    async fn join(&self, _: Joined) -> Result<(), Error> {
        tokio::task::yield_now().await;
        if self.0 {
            return Ok(());
        }
        Err(Error::new(Code::Internal, "told to refuse"))
    }

    async fn part(&self, _: &str) -> Result<(), Error> {
        tokio::task::yield_now().await;
        Ok(())
    }
}

struct World {
    keys: Arc<Keys>,
    tasks: Tasks,
    wire: Wire,
    pipe: Arc<Pipe>,
    prefixes: Prefixes,
}

/// The elements of a row.
type Elements = Vec<Box<dyn Element<Connections>>>;

fn inside() -> Namespace {
    let (inode, descriptor) = namespace("/dev/zero");
    Namespace { inode, descriptor }
}

fn manager() -> Target {
    Target::Url(EndpointUrl::parse(MANAGER))
}

impl World {
    fn new() -> Self {
        let prefixes = PointToPoint::new(&[vec!["10.0.0.0/24".parse().unwrap()]]).unwrap();
        Self {
            keys: Keys::new("own", Clock::default()),
            tasks: Tasks::new(),
            wire: Wire::default(),
            pipe: Arc::default(),
            prefixes: Prefixes::new(prefixes),
        }
    }

    fn call(&self) -> Call {
        let before = spiffe("before");
        let token = jwt(&before, &before, &spiffe("own"), self.keys.now() + LIFE);
        let mut call = Call::from(
            caller(&before, self.pipe.clone()),
            Some(token),
            Instant::now() + LIFE,
        );
        call.own = Some(Own {
            key: ConnectionKey {
                owner: before,
                id: "before-id".to_owned(),
            },
            id: "own-id".to_owned(),
            index: 1,
        });
        call
    }

    fn begin(&self) -> Box<dyn Element<Connections>> {
        Box::new(Begin::new(self.tasks.clone()))
    }

    fn passthrough(&self, joins: bool) -> Box<dyn Element<Connections>> {
        let labels = [("app".to_owned(), "firewall".to_owned())].into();
        Box::new(Passthrough::new(inside(), labels, Arc::new(Glue(joins))))
    }

    fn parts(&self) -> Parts {
        Parts {
            journal: None,
            name: "own".to_owned(),
            secret: Secret::new([1; 32]),
            tokens: self.keys.clone(),
            transport: self.wire.transport(self.keys.clone()),
            manager: manager(),
            roles: roles(),
            namespace: inside(),
            table: Arc::new(Watched::default()),
            liveness: Arc::new(Blind),
            tasks: self.tasks.clone(),
        }
    }
}

/// A list with these elements before the last one.
fn listed(mut elements: Elements, last: Box<dyn Element<Connections>>) -> Chain<Connections> {
    elements.push(last);
    Chain::new(elements)
}

async fn check(
    name: &str,
    elements: impl Fn(&World) -> Elements,
    own: fn(&mut NetworkServiceRequest),
) {
    let world = World::new();
    let request = || full_request("own-id", "svc");
    kit::conform(
        |probe| listed(elements(&world), Box::new(probe)),
        || world.call(),
        request(),
    )
    .await
    .unwrap_or_else(|why| panic!("{name}: {why}"));
    let world = World::new();
    kit::keeps(
        |last| listed(elements(&world), last),
        || world.call(),
        request(),
        own,
    )
    .await
    .unwrap_or_else(|why| panic!("{name}: {why}"));
    world.tasks.shutdown(LIFE).await;
}

fn no_mechanisms(request: &mut NetworkServiceRequest) {
    request.mechanism_preferences.clear();
    request.connection.get_or_insert_default().mechanism = buffa::MessageField::none();
}

#[tokio::test(start_paused = true)]
async fn elements_of_clients_conform() {
    check(
        "clienturl",
        |_| vec![Box::new(ToManager::new(manager(), &roles()))],
        |_| {},
    )
    .await;
    check("sendfd", |_| vec![Box::new(SendFd::new(inside()))], |_| {}).await;
    check(
        "refresh",
        |w| {
            let refresh = Refresh::new(w.keys.clone(), w.tasks.clone(), LIFE);
            vec![w.begin(), Box::new(refresh)]
        },
        |_| {},
    )
    .await;
    check(
        "heal",
        |w| {
            let (table, transport) = (
                Arc::new(Watched::default()),
                w.wire.transport(w.keys.clone()),
            );
            let blind = Arc::new(Blind);
            let heal = Heal::new("own", transport, table, w.tasks.clone(), LIFE, blind);
            vec![w.begin(), Box::new(heal)]
        },
        |one| one.connection.get_or_insert_default().state = State::UP.into(),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn elements_of_endpoints_conform() {
    check(
        "dnscontext",
        |_| {
            let config = DNSConfig {
                dns_server_ips: vec!["10.0.0.54".to_owned()],
                ..Default::default()
            };
            vec![Box::new(DnsContext::new(vec![config]))]
        },
        |one| {
            let context = one
                .connection
                .get_or_insert_default()
                .context
                .get_or_insert_default();
            context
                .dns_context
                .get_or_insert_default()
                .configs
                .truncate(1);
        },
    )
    .await;
    check(
        "point2pointipam",
        |w| vec![Box::new(Ipam::new(w.prefixes.clone(), Vec::new(), 1300))],
        |one| {
            let context = one
                .connection
                .get_or_insert_default()
                .context
                .get_or_insert_default();
            context.MTU = 0;
            let ip = context.ip_context.get_or_insert_default();
            (ip.src_ip_addrs, ip.dst_ip_addrs) = (Vec::new(), Vec::new());
            (ip.src_routes, ip.dst_routes) = (Vec::new(), Vec::new());
        },
    )
    .await;
    check(
        "mechanisms",
        |_| vec![Box::new(Mechanisms::new(inside(), false))],
        no_mechanisms,
    )
    .await;
    check(
        "passthrough",
        |w| vec![w.passthrough(true)],
        |one| {
            no_mechanisms(one);
            let connection = one.connection.get_or_insert_default();
            connection.labels.clear();
            connection.network_service_endpoint_name.clear();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_the_next_hop_accepted_is_closed_there() {
    let world = World::new();
    let request = || full_request("own-id", "svc");
    let list = |probe| listed(vec![world.passthrough(false)], Box::new(probe));
    kit::closes_on_error(list, || world.call(), request())
        .await
        .unwrap();
    world.pipe.break_sending();
    let list = |probe: kit::Probe| {
        let elements: Elements = vec![
            Box::new(SendFd::new(inside())),
            Box::new(Mechanisms::new(inside(), false)),
        ];
        listed(elements, Box::new(probe))
    };
    kit::closes_on_error(list, || world.call(), request())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_is_given_once_and_freed_once() {
    let world = World::new();
    let ipam = || Ipam::new(world.prefixes.clone(), Vec::new(), 0);
    let good = listed(vec![Box::new(ipam())], Box::new(kit::Probe::default()));
    let cause = Error::new(Code::Unavailable, "told to fail");
    let bad = listed(vec![Box::new(ipam())], Box::new(kit::Probe::failing(cause)));
    let request = |id: &str| full_request(id, "svc");
    let item = good.request(&mut world.call(), request("a")).await.unwrap();
    bad.request(&mut world.call(), request("b"))
        .await
        .unwrap_err();
    assert_eq!(world.prefixes.leases(), 1, "what failed has nothing");
    bad.request(&mut world.call(), request("a"))
        .await
        .unwrap_err();
    assert_eq!(world.prefixes.leases(), 1, "a refresh that failed keeps it");
    let again = good.request(&mut world.call(), request("a")).await.unwrap();
    assert_eq!(
        again.context.ip_context.src_ip_addrs,
        item.context.ip_context.src_ip_addrs
    );
    bad.close(&mut world.call(), item.clone())
        .await
        .unwrap_err();
    assert_eq!(world.prefixes.leases(), 0, "whatever fails further down");
    let other = good.request(&mut world.call(), request("c")).await.unwrap();
    good.close(&mut world.call(), item).await.unwrap();
    assert_eq!(
        world.prefixes.leases(),
        1,
        "a second close takes nobody else's"
    );
    assert_eq!(
        other.context.ip_context.src_ip_addrs,
        again.context.ip_context.src_ip_addrs
    );
}

/// Who had an address here before asks first.
#[tokio::test(start_paused = true)]
async fn addresses_of_the_process_before_are_not_given_to_others() {
    let world = World::new();
    let hold = Duration::from_secs(3);
    let began = Instant::now();
    world.prefixes.hold_until(began + hold);
    let ipam = Ipam::new(world.prefixes.clone(), Vec::new(), 0);
    let list = listed(vec![Box::new(ipam)], Box::new(kit::Probe::default()));
    let mut new = full_request("new", "svc");
    new.connection.get_or_insert_default().mechanism = buffa::MessageField::none();
    let mut known = full_request("known", "svc");
    known.connection.get_or_insert_default().mechanism =
        buffa::MessageField::some(nsm_model::mechanism::Kernel::default().mechanism());
    let (mut first, mut second) = (world.call(), world.call());
    let (new, known) = tokio::join!(
        async {
            let answer = list.request(&mut first, new).await;
            (answer, began.elapsed())
        },
        async {
            let answer = list.request(&mut second, known).await;
            (answer, began.elapsed())
        },
    );
    assert!(known.1 < hold && new.1 >= hold, "{:?} {:?}", known.1, new.1);
    assert!(known.0.is_ok() && new.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn passthrough_asks_with_its_own_labels_and_answers_with_the_callers() {
    let world = World::new();
    let seen: Arc<std::sync::Mutex<Vec<NetworkServiceRequest>>> = Arc::default();
    let list = listed(vec![world.passthrough(true)], Box::new(Seen(seen.clone())));
    let mut call = world.call();
    let answer = list
        .request(&mut call, full_request("own-id", "svc"))
        .await
        .unwrap();
    assert_eq!(answer.labels.get("app").map(String::as_str), Some("test"));
    assert_eq!(answer.network_service_endpoint_name, "chosen");
    let asked = seen.lock().unwrap().remove(0);
    let asked_labels = &asked.connection.labels;
    assert_eq!(
        asked_labels.get("app").map(String::as_str),
        Some("firewall")
    );
    assert_eq!(asked.connection.network_service_endpoint_name, "");
    assert!(asked.connection.mechanism.as_option().is_none());
    let offered = nsm_model::mechanism::Kernel::parse(&asked.mechanism_preferences[0]).unwrap();
    assert_eq!((offered.netns, offered.bare), (Some(inside().inode), true));
}

/// Keeps what arrives.
struct Seen(Arc<std::sync::Mutex<Vec<NetworkServiceRequest>>>);

#[async_trait]
impl Element<Connections> for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: nsm_chain::Next<Connections>,
    ) -> Result<nsm_api::connection::Connection, Error> {
        self.0.lock().unwrap().push(request.clone());
        next.request(call, request).await
    }
}

/// What the own elements' pages say.
const OWN: &[Stands<'static>] = &[
    ("refresh", &["begin"], &["heal"]),
    ("heal", &["refresh"], &["connect", "clienturl"]),
    ("sendfd", &[], &["mechanisms", "connect"]),
    ("clienturl", &[], &["connect"]),
    ("point2pointipam", &[], &["mechanisms"]),
    (
        "mechanisms",
        &["point2pointipam", "sendfd"],
        &["passthrough"],
    ),
    ("passthrough", &["mechanisms"], &["connect"]),
];

#[tokio::test]
async fn the_lists_stand_in_order() {
    let world = World::new();
    let parts = world.parts();
    let terminal = Kind::Terminal {
        prefixes: world.prefixes.clone(),
        routes: Vec::new(),
        dns: Vec::new(),
        mtu: 0,
    };
    let passing = Kind::Passthrough {
        labels: Default::default(),
        joiner: Arc::new(Glue(true)),
    };
    let third: Elements = vec![Box::new(DnsContext::default())];
    let terminal = Endpoint::new(&parts, terminal, third).chain.names();
    expect!["updatepath updatetoken authorize neighbour begin timeout monitor sendfd recvfd trimpath point2pointipam dnscontext dnscontext mechanisms"]
        .assert_eq(&terminal.join(" "));
    let passing = Endpoint::new(&parts, passing, Vec::new()).chain.names();
    expect!["updatepath updatetoken authorize neighbour begin timeout monitor sendfd recvfd mechanisms heal passthrough clienturl connect"]
        .assert_eq(&passing.join(" "));
    let client = Client::new(&parts, Default::default(), Duration::from_secs(1));
    let client = client.names();
    expect!["updatepath begin refresh heal clientinfo sendfd clienturl connect"]
        .assert_eq(&client.join(" "));
    for names in [terminal, passing, client] {
        assert_eq!(misplaced(&names, SHARED), [""; 0]);
        assert_eq!(misplaced(&names, OWN), [""; 0]);
    }
    let _connect = Connect::new(
        world.wire.transport(world.keys.clone()),
        world.tasks.clone(),
    );
}
