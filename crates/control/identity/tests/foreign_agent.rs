//! An agent as SPIRE's behaves: several SVIDs with hints, federated bundles, updates, and over TCP.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use nsm_identity::{
    Identity, Workload, WorkloadError,
    ca::Root,
    workload::{
        JWTBundlesRequest, JWTBundlesResponse, JWTSVIDRequest, JWTSVIDResponse,
        ValidateJWTSVIDRequest, ValidateJWTSVIDResponse, X509BundlesRequest, X509BundlesResponse,
        X509SVID, X509SVIDRequest, X509SVIDResponse,
        server::{SpiffeWorkloadAPI, SpiffeWorkloadAPIServer},
    },
};
use nsm_model::spiffe::SpiffeId;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Request, Response, Status, transport::Server};

/// Sends whatever the test puts into the channel.
struct Foreign(watch::Receiver<X509SVIDResponse>);

type Feed<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl SpiffeWorkloadAPI for Foreign {
    type FetchX509SVIDStream = Feed<X509SVIDResponse>;
    type FetchX509BundlesStream = Feed<X509BundlesResponse>;
    type FetchJWTBundlesStream = Feed<JWTBundlesResponse>;

    async fn fetch_x509_svid(
        &self,
        request: Request<X509SVIDRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        assert_eq!(
            request.metadata().get("workload.spiffe.io").unwrap(),
            "true"
        );
        Ok(Response::new(
            WatchStream::new(self.0.clone()).map(Ok).boxed(),
        ))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("x509 bundles"))
    }

    async fn fetch_jwt_svid(
        &self,
        _: Request<JWTSVIDRequest>,
    ) -> Result<Response<JWTSVIDResponse>, Status> {
        Err(Status::unimplemented("jwt svid"))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JWTBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented("jwt bundles"))
    }

    async fn validate_jwt_svid(
        &self,
        _: Request<ValidateJWTSVIDRequest>,
    ) -> Result<Response<ValidateJWTSVIDResponse>, Status> {
        Err(Status::unimplemented("jwt validation"))
    }
}

async fn serve(messages: watch::Receiver<X509SVIDResponse>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let service = SpiffeWorkloadAPIServer::new(Foreign(messages));
        let incoming = TcpListenerStream::new(listener);
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    (address, tasks)
}

fn svid(identity: &Identity, root: &Root, hint: &str) -> X509SVID {
    X509SVID {
        spiffe_id: identity.id().to_string(),
        x509_svid: identity.leaf().to_vec(),
        x509_svid_key: identity.key().secret_der().to_vec(),
        bundle: root.certificate().to_vec(),
        hint: hint.to_owned(),
        ..Default::default()
    }
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://ours.org/{name}").parse().unwrap()
}

#[tokio::test]
async fn the_first_svid_counts_and_bundles_are_updated() {
    let root = |name: &str| Root::generate(name.parse().unwrap()).unwrap();
    let (ours, next, theirs) = (root("ours.org"), root("ours.org"), root("theirs.org"));
    let hour = Duration::from_secs(3600);
    let (a, b) = (
        ours.issue(&id("a"), hour).unwrap(),
        ours.issue(&id("b"), hour).unwrap(),
    );
    let svids = vec![svid(&a, &ours, "internal"), svid(&b, &ours, "external")];
    let message = X509SVIDResponse {
        svids,
        ..Default::default()
    };
    let (sender, receiver) = watch::channel(message.clone());
    let (address, _tasks) = serve(receiver).await;
    let workload = Workload::connect(&format!("tcp://{address}"), Duration::from_secs(5))
        .await
        .unwrap();
    let mut source = workload.source();
    assert_eq!(source.current().id(), &id("a"));
    assert_eq!(source.current().bundles().len(), 1);

    // Unusable updates are passed over, the same one again is none.
    let mut broken = message.clone();
    broken.svids[0].x509_svid_key = b.key().secret_der().to_vec();
    for update in [X509SVIDResponse::default(), broken, message.clone()] {
        sender.send_replace(update);
        let changed = tokio::time::timeout(Duration::from_millis(100), source.changed()).await;
        assert!(changed.is_err(), "{changed:?}");
    }

    // A second root of our own domain and a federated one.
    let mut wider = message;
    wider.svids[0].bundle.extend_from_slice(next.certificate());
    wider.federated_bundles = [(
        "spiffe://theirs.org".to_owned(),
        theirs.certificate().to_vec(),
    )]
    .into();
    sender.send_replace(wider);
    let changed = tokio::time::timeout(Duration::from_secs(5), source.changed())
        .await
        .unwrap();
    assert_eq!(changed.chain(), a.chain());
    assert_eq!(changed.bundles()[&"ours.org".parse().unwrap()].len(), 2);
    assert_eq!(
        changed.bundles()[&"theirs.org".parse().unwrap()],
        [theirs.certificate().clone()]
    );
}

/// What an agent that was away from its server hands out first is over; a federated bundle that is
/// no bundle takes nothing else along.
#[tokio::test]
async fn what_has_expired_is_waited_out_and_a_broken_neighbour_is_left_out() {
    let ours = Root::generate("ours.org".parse().unwrap()).unwrap();
    let theirs = Root::generate("theirs.org".parse().unwrap()).unwrap();
    let until = |seconds| SystemTime::now() + Duration::from_secs(seconds);
    let message = |identity: &Identity| X509SVIDResponse {
        svids: vec![svid(identity, &ours, "")],
        federated_bundles: [
            ("spiffe://broken.org".to_owned(), vec![1, 2]),
            (
                "spiffe://theirs.org".to_owned(),
                theirs.certificate().to_vec(),
            ),
        ]
        .into(),
        ..Default::default()
    };
    let over = ours.issue_until(&id("a"), until(1)).unwrap();
    while over.remaining(SystemTime::now()) > Duration::ZERO {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let good = ours.issue_until(&id("a"), until(60)).unwrap();
    let (sender, receiver) = watch::channel(message(&over));
    let (address, _tasks) = serve(receiver).await;
    let address = format!("tcp://{address}");
    let waits = Workload::connect(&address, Duration::from_secs(10));
    let renews = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        sender.send_replace(message(&good));
    };
    let (workload, ()) = tokio::join!(waits, renews);
    let current = workload.unwrap().source().current();
    assert_eq!(current.chain(), good.chain());
    let domains: Vec<_> = current.bundles().keys().map(ToString::to_string).collect();
    assert_eq!(domains, ["ours.org", "theirs.org"]);
}

#[tokio::test]
async fn what_cannot_be_used_is_explained() {
    let ours = Root::generate("ours.org".parse().unwrap()).unwrap();
    let good = ours.issue(&id("a"), Duration::from_secs(60)).unwrap();
    let row = |change: fn(&mut X509SVID)| {
        let mut one = svid(&good, &ours, "");
        change(&mut one);
        X509SVIDResponse {
            svids: vec![one],
            ..Default::default()
        }
    };
    for (message, says) in [
        (X509SVIDResponse::default(), "contains no SVID"),
        (row(|svid| svid.x509_svid.truncate(100)), "malformed"),
        (
            row(|svid| svid.x509_svid_key = vec![1, 2]),
            "configure the agent to issue EC P-256 keys",
        ),
        (
            row(|svid| svid.bundle.clear()),
            "no trust bundle for ours.org",
        ),
        (
            row(|svid| svid.spiffe_id = "spiffe://ours.org/b".to_owned()),
            "said to be for spiffe://ours.org/b",
        ),
        (
            row(|svid| svid.x509_svid.clone_from(&svid.bundle)),
            "is a CA; a workload's SVID must not be",
        ),
    ] {
        let (_sender, receiver) = watch::channel(message);
        let (address, _tasks) = serve(receiver).await;
        let error = Workload::connect(&format!("tcp://{address}"), Duration::ZERO)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(says),
            "{error} should say {says:?}"
        );
    }
}

#[tokio::test]
async fn addresses_are_checked() {
    for (address, says) in [
        (
            "/run/agent.sock",
            "must be unix:///absolute/path or tcp://ip:port",
        ),
        ("unix://relative", "must be unix"),
        ("tcp://localhost:1", "must be unix"),
        (
            "unix:///nonexistent/agent.sock",
            "cannot reach the SPIFFE agent at unix:///nonexistent/agent.sock: No such file",
        ),
        ("tcp://127.0.0.1:1", "refused"),
    ] {
        let error = Workload::connect(address, Duration::ZERO)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(says),
            "{error} should say {says:?}"
        );
        let parsed = !matches!(error, WorkloadError::Address(_));
        assert_eq!(
            parsed,
            address.contains("nonexistent") || address.contains("127")
        );
    }
}
