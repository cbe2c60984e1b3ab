//! Every element of the forwarder passes the kit, and its list stands as their pages say.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use expect_test::expect;
use nsm_api::{
    connection::{Connection, Mechanism},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Next, Own, Target, Tasks, Tokens as _,
    begin::Begin,
    elements::{Held, RecvFd},
    kit,
};
use nsm_forwarder::{
    Adopted, Config, Counters, Forwarder, Kernel, KernelError, Lives, Namespaces, NetnsRef, Parts,
    Vnis,
    elements::{Discover, MechanismTranslation, Mechanisms, Policy, RoundRobin, Xconnect},
};
use nsm_model::{
    ids::{ConnectionKey, Secret},
    mechanism,
    url::EndpointUrl,
};
use nsm_plan::{Changes, KeyDigest, Plan};
use nsm_test_support::{
    Book, Clock, Keys, LIFE, Pipe, SHARED, Stands, Watched, Wire, caller, endpoint, full_request,
    jwt, misplaced, namespace, roles, service, spiffe,
};
use tokio::time::Instant;

/// A kernel that takes everything, or nothing.
#[derive(Default)]
struct Easy {
    refuses: AtomicBool,
    plans: Mutex<usize>,
}

#[async_trait]
impl Kernel for Easy {
    async fn apply(&self, _: Changes, _: Namespaces) -> Result<Vec<NetnsRef>, KernelError> {
        tokio::task::yield_now().await;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(KernelError::Refused("told to refuse".to_owned()));
        }
        *self.plans.lock().unwrap() += 1;
        Ok(Vec::new())
    }

    async fn adopt(&self, _: &Plan, _: &[NetnsRef]) -> Result<Adopted, KernelError> {
        tokio::task::yield_now().await;
        Ok(Adopted::AsItWas)
    }

    async fn repair(&self, _: &Plan) -> Result<Adopted, KernelError> {
        tokio::task::yield_now().await;
        Ok(Adopted::AsItWas)
    }

    async fn sweep(&self, _: BTreeSet<KeyDigest>) -> Result<usize, KernelError> {
        tokio::task::yield_now().await;
        Ok(0)
    }

    async fn undo(&self, _: Plan) -> Result<(), KernelError> {
        tokio::task::yield_now().await;
        *self.plans.lock().unwrap() -= 1;
        Ok(())
    }

    async fn stands(&self, _: &Plan) -> Option<bool> {
        Some(true)
    }

    async fn counters(&self, _: &Plan) -> Vec<(&'static str, Counters)> {
        Vec::new()
    }
}

/// The next hop: chooses where the call goes, and answers KERNEL in its own namespace, or nothing.
struct Far {
    mechanism: Option<Mechanism>,
}

#[async_trait]
impl Element<Connections> for Far {
    fn name(&self) -> &'static str {
        "far"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let (inode, descriptor) = namespace("/dev/zero");
        Held::share(call, inode, descriptor);
        let mut answer = next.request(call, request).await?;
        answer.mechanism = self.mechanism.clone().into();
        Ok(answer)
    }
}

fn kernel_in(path: &str, name: &str) -> Mechanism {
    let said = mechanism::Kernel {
        netns: Some(namespace(path).0),
        name: Some(name.parse().unwrap()),
        bare: false,
    };
    said.mechanism()
}

struct World {
    keys: Arc<Keys>,
    tasks: Tasks,
    book: Arc<Book>,
    kernel: Arc<Easy>,
    vnis: Arc<Vnis>,
    lives: Arc<Lives>,
}

impl World {
    fn new() -> Self {
        let book = Book::default();
        book.add_service(service("svc"));
        book.add(endpoint("chosen", "svc", "unix:///run/chosen", &[]));
        Self {
            keys: Keys::new("own", Clock::default()),
            tasks: Tasks::new(),
            book: Arc::new(book),
            kernel: Arc::default(),
            vnis: Arc::default(),
            lives: Arc::default(),
        }
    }

    fn call(&self) -> Call {
        let before = spiffe("before");
        let pipe = Arc::new(Pipe::default());
        pipe.send_file("/dev/null");
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
        call.scratch
            .put(Target::Url(EndpointUrl::parse("unix:///run/chosen")));
        call
    }

    fn translation(&self) -> MechanismTranslation {
        MechanismTranslation::new(Policy {
            tunnel_ip: "192.168.0.1".parse().unwrap(),
            port: 4789,
            underlay_mtu: 1500,
            require_encryption: false,
        })
    }

    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::new(self.vnis.clone(), "192.168.0.1".parse().unwrap(), 4789)
    }

    /// A list with the elements that `xconnect` needs around it.
    fn joined(
        &self,
        far: Option<Mechanism>,
        last: Box<dyn Element<Connections>>,
    ) -> Chain<Connections> {
        Chain::new(vec![
            Box::new(Begin::new(self.tasks.clone())),
            Box::new(RecvFd),
            Box::new(self.mechanisms()),
            Box::new(Xconnect::new(
                self.kernel.clone(),
                self.vnis.clone(),
                self.lives.clone(),
                self.tasks.clone(),
            )),
            Box::new(self.translation()),
            Box::new(Far { mechanism: far }),
            last,
        ])
    }
}

fn request() -> NetworkServiceRequest {
    let mut request = full_request("own-id", "svc");
    request.connection.get_or_insert_default().mechanism = kernel_in("/dev/null", "nsm-1").into();
    request
}

fn no_mechanisms(request: &mut NetworkServiceRequest) {
    request.mechanism_preferences.clear();
    request.connection.get_or_insert_default().mechanism = buffa::MessageField::none();
}

async fn check(
    name: &str,
    world: &World,
    list: impl Fn(Box<dyn Element<Connections>>) -> Chain<Connections>,
    own: impl Fn(&mut NetworkServiceRequest),
) {
    kit::conform(|probe| list(Box::new(probe)), || world.call(), request())
        .await
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    kit::keeps(list, || world.call(), request(), own)
        .await
        .unwrap_or_else(|why| panic!("{name}: {why}"));
}

#[tokio::test(start_paused = true)]
async fn every_element_conforms() {
    let world = World::new();
    let choose = |last: Box<dyn Element<Connections>>| {
        Chain::new(vec![
            Box::new(Discover::new(world.book.clone(), world.keys.clone()))
                as Box<dyn Element<Connections>>,
            Box::new(RoundRobin::new(world.book.clone(), roles())),
            last,
        ])
    };
    check("discover, roundrobin", &world, choose, |_| {}).await;
    let near = |last| {
        Chain::new(vec![
            Box::new(world.mechanisms()) as Box<dyn Element<Connections>>,
            last,
        ])
    };
    check("mechanisms", &world, near, no_mechanisms).await;
    let far = |last| {
        Chain::new(vec![
            Box::new(world.translation()) as Box<dyn Element<Connections>>,
            Box::new(Far {
                mechanism: Some(kernel_in("/dev/zero", "nsm-2")),
            }),
            last,
        ])
    };
    check("mechanismtranslation", &world, far, no_mechanisms).await;
    let joined = |last| world.joined(Some(kernel_in("/dev/zero", "nsm-2")), last);
    check("xconnect", &world, joined, |one| {
        no_mechanisms(one);
        let path = one
            .connection
            .get_or_insert_default()
            .path
            .get_or_insert_default();
        for segment in &mut path.path_segments {
            segment
                .metrics
                .retain(|name, _| !name.ends_with("_interface"));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_the_next_hop_accepted_is_closed_there() {
    let world = World::new();
    let without = |probe: kit::Probe| world.joined(None, Box::new(probe));
    kit::closes_on_error(without, || world.call(), request())
        .await
        .unwrap();
    let unknown = Mechanism {
        r#type: "MEMIF".to_owned(),
        ..Default::default()
    };
    let foreign = |probe: kit::Probe| world.joined(Some(unknown.clone()), Box::new(probe));
    kit::closes_on_error(foreign, || world.call(), request())
        .await
        .unwrap();
    world.kernel.refuses.store(true, Ordering::SeqCst);
    let joined =
        |probe: kit::Probe| world.joined(Some(kernel_in("/dev/zero", "nsm-2")), Box::new(probe));
    kit::closes_on_error(joined, || world.call(), request())
        .await
        .unwrap();
    assert_eq!(
        (
            *world.kernel.plans.lock().unwrap(),
            world.lives.all().len(),
            world.vnis.len()
        ),
        (0, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_common_mechanism_is_told_what_there_is() {
    let world = World::new();
    let list = Chain::new(vec![
        Box::new(world.mechanisms()) as Box<dyn Element<Connections>>
    ]);
    let refuse = async |mechanism: Mechanism| {
        let mut request = full_request("own-id", "svc");
        no_mechanisms(&mut request);
        request.mechanism_preferences = vec![mechanism];
        let error = list.request(&mut world.call(), request).await.unwrap_err();
        format!("{:?}: {error}", error.code)
    };
    let of = |kind: &str, parameters: &[(&str, &str)]| Mechanism {
        r#type: kind.to_owned(),
        parameters: parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    };
    expect!["Unimplemented: connection own-id: no common mechanism: it asks for [SRV6], this forwarder has KERNEL on its node and VXLAN between nodes"]
        .assert_eq(&refuse(of("SRV6", &[])).await);
    expect!["FailedPrecondition: connection own-id: 192.168.0.2 uses VXLAN port 8472, this node 4789: set both forwarders to one port"]
        .assert_eq(&refuse(of("VXLAN", &[("src_ip", "192.168.0.2"), ("src_port", "8472")])).await);
    let nowhere = refuse(of("VXLAN", &[])).await;
    assert!(
        nowhere.starts_with("InvalidArgument") && nowhere.contains("src_ip"),
        "{nowhere}"
    );
    let nowhere = refuse(of("KERNEL", &[])).await;
    assert!(
        nowhere.starts_with("InvalidArgument") && nowhere.contains("inodeURL"),
        "{nowhere}"
    );
    assert_eq!(
        Code::Unimplemented,
        Error::new(Code::Unimplemented, "").code
    );
}

/// What the forwarder's own elements' pages say.
const OWN: &[Stands<'static>] = &[
    ("discover", &["recvfd"], &["roundrobin"]),
    ("mechanisms", &[], &["xconnect"]),
    ("xconnect", &["mechanisms"], &["roundrobin"]),
    (
        "roundrobin",
        &["xconnect"],
        &["mechanismtranslation", "connect"],
    ),
    ("mechanismtranslation", &["roundrobin"], &["connect"]),
];

#[tokio::test]
async fn the_list_stands_in_order() {
    let world = World::new();
    let config = Config {
        name: "own".to_owned(),
        tunnel_ip: "192.168.0.1".parse().unwrap(),
        vxlan_port: 4789,
        underlay_mtu: 1500,
        require_encryption: false,
    };
    let parts = Parts {
        journal: None,
        peers: Default::default(),
        owed: Default::default(),
        secret: Secret::new([1; 32]),
        tokens: world.keys.clone(),
        transport: Wire::default().transport(world.keys.clone()),
        directory: world.book.clone(),
        kernel: world.kernel.clone(),
        roles: roles(),
        table: Arc::new(Watched::default()),
        tasks: world.tasks.clone(),
    };
    let names = Forwarder::new(&config, &parts).chain.names();
    expect!["updatepath updatetoken authorize neighbour begin timeout monitor recvfd discover mechanisms xconnect roundrobin mechanismtranslation connect"]
        .assert_eq(&names.join(" "));
    assert_eq!(misplaced(&names, SHARED), [""; 0]);
    assert_eq!(misplaced(&names, OWN), [""; 0]);
}
