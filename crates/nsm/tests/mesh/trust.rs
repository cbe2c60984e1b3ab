//! Who is nobody, somebody else, or too late.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Code, Error, Token};
use nsm_identity::{Identity, ca::Root};
use nsm_lab::mesh::{MeshConfig, manager_url};
use nsm_model::{mechanism::Kernel, spiffe::SpiffeId};
use nsm_rpc::{
    client::outgoing, generated::network_service::network_service_client::NetworkServiceClient,
    meta, origin, status::from_status,
};

use crate::{
    Group, raw,
    world::{PATIENCE, Shape, World, addresses, end, lines, pings, says, stopped},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "trust",
    mesh: || Shape {
        nodes: &["node-1"],
        config: MeshConfig::default(),
    },
    rows: &[
        ("a process that the agent does not know", no_entry),
        ("foreign and expired SVIDs", svids),
        ("tokens", tokens),
        ("somebody else's connection", crate::thief::stolen),
        ("two identities swapped", swapped),
        ("somebody else's endpoint", endpoint_taken),
    ],
};

fn no_entry(world: &World) {
    let before = world.census(&[]);
    let node = world.mesh.node(0).node();
    let pod = world.lab.pod(node, "t-nobody", |spec| spec).unwrap();
    let log = world.lab.logs().join("t-nobody.log");
    let run = World::program("client", &[("NSM_IDENTITY_TIMEOUT", "500ms")])
        .env("NSM_NETWORK_SERVICES", "kernel://t-any/nsm-1")
        .env("NSM_CONNECT_TO", manager_url())
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER),
        )
        .log(&log);
    let process = pod.cell().spawn(run).unwrap();
    assert_eq!(process.wait(PATIENCE), Some(nsm_lab::Exit::Code(1)));
    let text = std::fs::read_to_string(&log).unwrap();
    let said = text.lines().last().unwrap_or_default();
    says(said, &["no identity", "agent.sock", "add an entry", "uid"]);
    pod.kill();
    world.as_before(&before, &[]);
}

fn svids(world: &World) {
    let before = world.census(&[]);
    let short = raw::identity(world, "t-late", Duration::from_secs(1));
    let foreign = Root::generate("elsewhere.org".parse().unwrap()).unwrap();
    let id = "spiffe://elsewhere.org/client".parse().unwrap();
    let foreign = foreign.issue(&id, Duration::from_secs(60)).unwrap();
    // Of the right name, signed by somebody else.
    let forged = Root::generate("nsm.lab".parse().unwrap()).unwrap();
    let id: SpiffeId = "spiffe://nsm.lab/manager-node-1".parse().unwrap();
    let forged = forged.issue(&id, Duration::from_secs(60)).unwrap();
    while short.remaining(SystemTime::now()) > Duration::ZERO {
        std::thread::sleep(Duration::from_millis(20));
    }
    let rows: [(Arc<Identity>, &[&str]); 3] = [
        (short, &["expired"]),
        (foreign, &["elsewhere.org"]),
        (forged, &["nsm.lab"]),
    ];
    for (identity, parts) in rows {
        let name = identity.id().clone();
        let error = raw::speak(world, 0, identity, async |raw| {
            let target = raw::manager(world, 0);
            let ask = raw::request("t-svid", "t-any", Vec::new());
            raw.request(&target, ask).await.unwrap_err()
        });
        assert!(
            matches!(
                error.code,
                Code::Unauthenticated | Code::Unavailable | Code::PermissionDenied
            ),
            "{name}: {error:?}"
        );
        says(&error.message, parts);
    }
    world.as_before(&before, &[]);
}

/// A request with a token of one's own making.
async fn with_token(
    raw: &raw::Raw,
    world: &World,
    request: NetworkServiceRequest,
    token: Option<Token>,
) -> Result<Connection, Error> {
    let hop = raw.hop(&raw::manager(world, 0)).await?;
    let mut message = outgoing(&hop.peer, &hop.tokens, request, Some(raw::soon()))?;
    message.metadata_mut().remove(meta::TOKEN_KEY);
    message.metadata_mut().remove(meta::EXPIRES_KEY);
    if let Some(token) = token {
        meta::put_token(message.metadata_mut(), &token)?;
    }
    let mut client = NetworkServiceClient::with_origin(hop.peer.channel(), origin());
    let answer = client.request(message).await;
    answer
        .map(|answer| answer.into_inner())
        .map_err(|status| from_status(&status))
}

fn tokens(world: &World) {
    let endpoint = world.endpoint(0, "t-token-nse", "t-token", &[]);
    let before = world.census(&[endpoint.pod.cell()]);
    let (thief, other) = (raw::known(world, "t-thief"), raw::known(world, "t-other"));
    let manager: SpiffeId = "spiffe://nsm.lab/manager-node-1".parse().unwrap();
    let registry: SpiffeId = "spiffe://nsm.lab/registry-node-1".parse().unwrap();
    let later = SystemTime::now() + Duration::from_secs(300);
    let past = SystemTime::now() - Duration::from_secs(300);
    let token = |jwt: String, expires| {
        Some(Token {
            jwt,
            expires,
            left: None,
        })
    };
    let signed = |by: &Identity, sub: &SpiffeId, aud: &SpiffeId, expires| {
        token(by.signer().sign(sub, aud, expires).unwrap(), expires)
    };
    let own = thief.id();
    let rows: [(&str, Option<Token>, &[&str]); 7] = [
        ("none", None, &["token"]),
        ("not a JWT", token("a.b".to_owned(), later), &["malformed"]),
        (
            "signed by another key",
            signed(&other, own, &manager, later),
            &["not signed by", "t-thief"],
        ),
        (
            "another's token",
            signed(&other, other.id(), &manager, later),
            &["not signed by", "t-thief"],
        ),
        (
            "in another's name",
            signed(&thief, other.id(), &manager, later),
            &["t-other", "speaks only for its signer"],
        ),
        (
            "for somebody else",
            signed(&thief, own, &registry, later),
            &["registry-node-1", "not for", "manager-node-1"],
        ),
        (
            "expired",
            signed(&thief, own, &manager, past),
            &["t-thief", "expired"],
        ),
    ];
    for (name, token, parts) in rows {
        let error = raw::speak(world, 0, Arc::clone(&thief), async |raw| {
            let ask = raw::request("t-token", "t-token", vec![Kernel::default().mechanism()]);
            with_token(raw, world, ask, token).await.unwrap_err()
        });
        assert!(
            matches!(error.code, Code::Unauthenticated | Code::PermissionDenied),
            "{name}: {error:?}"
        );
        says(&error.message, parts);
    }
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(endpoint);
}

/// The entries give A's identity to B's process: whoever it was is somebody else from then on.
fn swapped(world: &World) {
    let node = world.mesh.node(0);
    let endpoint = world.endpoint(0, "t-swap-nse", "t-swap", &[]);
    let client = world.client(0, "t-swap-a", "kernel://t-swap/nsm-1", &[]);
    let before = world.census(&[endpoint.pod.cell(), client.pod.cell()]);
    // Another process under the client's name, but with an identity of its own.
    let pod = world.lab.pod(node.node(), "t-swap-b", |spec| spec).unwrap();
    node.enroll(pod.cell(), "t-swap-b").unwrap();
    let run = World::program(
        "client",
        &[("NSM_NETWORK_SERVICES", "kernel://t-swap/nsm-1")],
    );
    let log = world.lab.logs().join("t-swap-b.log");
    let run = run
        .env("NSM_NAME", "t-swap-a")
        .env("NSM_CONNECT_TO", manager_url())
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER),
        )
        .log(&log);
    let process = pod.cell().spawn(run).unwrap();
    crate::world::until("it gets a connection of its own", PATIENCE, || {
        crate::world::count(&log, crate::world::CONNECTED) == 1
    });
    let (a, b) = (addresses(&client).0, lines(&log));
    let b = b
        .iter()
        .find(|line| line["fields"]["message"] == crate::world::CONNECTED)
        .unwrap();
    assert_ne!(
        b["fields"]["addresses"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap(),
        a[0]
    );
    stopped(&process);
    assert!(
        pings(client.pod.cell(), &addresses(&client).1[0]),
        "A's is unharmed by B's close"
    );
    pod.kill();
    world.as_before(&before, &[endpoint.pod.cell(), client.pod.cell()]);
    end(client);
    end(endpoint);
}

/// An endpoint's name in the registry is its owner's.
fn endpoint_taken(world: &World) {
    let endpoint = world.endpoint(0, "t-name", "t-name", &[]);
    let before = world.census(&[endpoint.pod.cell()]);
    let pod = world
        .lab
        .pod(world.mesh.node(0).node(), "t-name-thief", |spec| spec)
        .unwrap();
    world
        .mesh
        .node(0)
        .enroll(pod.cell(), "t-name-thief")
        .unwrap();
    let log = world.lab.logs().join("t-name-thief.log");
    let run = World::program("endpoint", &[("NSM_SERVICE_NAMES", "t-name")])
        .env("NSM_NAME", "t-name")
        .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock")
        .env("NSM_CONNECT_TO", manager_url())
        .env(
            "SPIFFE_ENDPOINT_SOCKET",
            format!("unix://{}/agent.sock", nsm_lab::IDENTITY_FOLDER),
        )
        .log(&log);
    let process = pod.cell().spawn(run).unwrap();
    crate::world::until("it is refused", PATIENCE, || {
        crate::world::count(&log, "registration failed") > 0
    });
    let error = crate::world::last(&log, "registration failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    says(&error, &["t-name", "spiffe://nsm.lab/t-name"]);
    stopped(&process);
    pod.kill();
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(endpoint);
}
