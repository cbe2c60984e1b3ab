//! The roles file: who is refused, what changes with it, and who may end what others registered.

use std::{fs, path::PathBuf, time::Duration};

use nsm_chain::{Code, Registrar as _, Target};
use nsm_lab::mesh::MeshConfig;
use nsm_model::{mechanism::Kernel, url::EndpointUrl};
use nsm_registry::remote::Remote;

use crate::{
    Group, raw,
    world::{PATIENCE, Shape, World, end, says, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "roles",
    mesh: || {
        write(FIRST);
        let roles = ("NSM_ROLES".to_owned(), file().display().to_string());
        Shape {
            nodes: &["node-1"],
            config: MeshConfig {
                env: [roles].into(),
                ..MeshConfig::default()
            },
        }
    },
    rows: &[
        ("clients of a service", clients),
        ("endpoints of a service", endpoints),
        ("a file that changes, and a broken one", changes),
        ("an operator ends an endpoint", operators),
    ],
};

const FIRST: &str = "clients:\n  r-vpn: /r-friend*\nendpoints:\n  r-vpn: /r-gateway\n";

/// Where every cell sees it: their /tmp is their own.
fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("roles-{}.yaml", std::process::id()))
}

/// Writes it, and waits until the manager has read it.
fn change(world: &World, text: &str) {
    let read = || {
        log(world, "manager")
            .matches("its roles are in force")
            .count()
    };
    let before = read();
    write(text);
    until("it is read", PATIENCE, || read() > before);
    // The others look as often.
    std::thread::sleep(Duration::from_secs(2));
}

/// As editors do it: whoever reads sees the old one or the new one.
fn write(text: &str) {
    let new = file().with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file()).unwrap();
}

fn log(world: &World, role: &str) -> String {
    fs::read_to_string(world.lab.logs().join(format!("{role}-node-1.log"))).unwrap()
}

fn clients(world: &World) {
    let endpoint = world.endpoint(0, "r-gateway", "r-vpn", &[]);
    let open = world.endpoint(0, "r-open", "r-open", &[]);
    let before = world.census(&[endpoint.pod.cell()]);
    let error = world.refused(0, "r-stranger", "kernel://r-vpn/nsm-1", &[]);
    says(
        &error,
        &[
            "spiffe://nsm.lab/r-stranger",
            "client",
            "r-vpn",
            "roles file",
        ],
    );
    let told = log(world, "manager");
    let line = told.lines().find(|line| {
        let parts = ["audit", "role", "r-stranger", "r-vpn"];
        parts.iter().all(|part| line.contains(part))
    });
    assert!(line.is_some(), "{told}");
    // By naming its endpoint in the name of a service that everybody may use.
    let asked = raw::speak(world, 0, raw::known(world, "r-stranger"), async |raw| {
        let mut ask = raw::request("r-sly", "r-open", vec![Kernel::default().mechanism()]);
        ask.connection
            .get_or_insert_default()
            .network_service_endpoint_name = "r-gateway".to_owned();
        raw.request(&raw::manager(world, 0), ask).await.unwrap_err()
    });
    assert_eq!(asked.code, Code::FailedPrecondition, "{asked}");
    says(&asked.message, &["r-gateway", "does not offer", "r-open"]);
    world.as_before(&before, &[endpoint.pod.cell()]);
    end(world.client(0, "r-friend-1", "kernel://r-vpn/nsm-1", &[]));
    end(open);
    end(endpoint);
}

fn endpoints(world: &World) {
    let before = world.census(&[]);
    let run = World::program("endpoint", &[("NSM_SERVICE_NAMES", "r-vpn")])
        .env("NSM_LISTEN_ON", "unix:///run/nse/nse.sock");
    let node = world.mesh.node(0);
    let impostor = world
        .mesh
        .run(node, "r-impostor", run, "registration failed")
        .unwrap();
    let error = crate::world::last(&impostor.log, "registration failed")["error"].clone();
    says(
        error.as_str().unwrap(),
        &["r-impostor", "r-vpn", "roles file"],
    );
    end(impostor);
    world.as_before(&before, &[]);
}

fn changes(world: &World) {
    let endpoint = world.endpoint(0, "r-gateway", "r-vpn", &[]);
    let friend = world.client(0, "r-friend-2", "kernel://r-vpn/nsm-1", &[]);
    // A broken file: it is told with its line, and the roles before stay.
    write("clients:\n  r-vpn: [/r-friend*, r-late]\n");
    until("it is refused", PATIENCE, || {
        log(world, "manager").contains("line 2: clients.r-vpn: pattern")
    });
    let stranger = raw::speak(world, 0, raw::known(world, "r-late"), async |raw| {
        let ask = raw::request("r-late", "r-vpn", vec![Kernel::default().mechanism()]);
        raw.request(&raw::manager(world, 0), ask).await.unwrap_err()
    });
    assert_eq!(stranger.code, Code::PermissionDenied, "{stranger}");
    // Allowed from now on.
    change(world, &FIRST.replace("/r-friend*", "[/r-friend*, /r-late]"));
    end(world.client(0, "r-late", "kernel://r-vpn/nsm-1", &[]));
    // No longer allowed: what is there stays, and may be let go.
    change(world, &FIRST.replace("/r-friend*", "/nobody"));
    let before = raw::connections(world, 0);
    assert!(!before.is_empty(), "knowledge alone tears down");
    end(friend);
    until("it is closed", PATIENCE, || {
        raw::connections(world, 0).is_empty()
    });
    change(world, FIRST);
    end(endpoint);
}

fn operators(world: &World) {
    let endpoint = world.endpoint(0, "r-gone", "r-gone", &[]);
    let registered = || {
        let all = raw::registry(world);
        all.iter().any(|one| one.starts_with("endpoint r-gone "))
    };
    assert!(registered());
    for (who, may) in [("r-stranger", false), ("operator/ada", true)] {
        let ended = raw::speak(world, 0, raw::known(world, who), async |raw| {
            let url = EndpointUrl::parse(&world.mesh.registry_url());
            let remote = Remote::new(raw.transport.clone(), Target::Url(url));
            let all = remote.all_endpoints(raw::soon()).await.unwrap();
            let record = all.into_iter().find(|one| one.name == "r-gone").unwrap();
            remote.unregister(record, raw::soon()).await
        });
        match ended {
            Ok(()) => assert!(may, "{who}"),
            Err(error) => {
                assert!(!may, "{who}: {error}");
                assert_eq!(error.code, Code::PermissionDenied, "{error}");
            }
        }
        assert_eq!(registered(), !may, "{who}");
    }
    end(endpoint);
    let _gone = fs::remove_file(file());
}
