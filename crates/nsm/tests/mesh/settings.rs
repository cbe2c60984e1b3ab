//! Settings that cannot be: refused before anything is asked for, in one line.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    NSM,
    world::{Env, says},
};

/// A program that would wait for an identity first does not answer within this.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What is run, its variables, its `--config` file, and what must be said.
struct Case {
    role: &'static str,
    env: Env<'static>,
    file: Option<&'static str>,
    parts: &'static [&'static str],
}

/// See [`Case`].
pub(crate) const ROWS: &[(&str, fn())] = &[
    ("network service URLs", || check(URLS)),
    ("a YAML file of settings", || check(FILES)),
    ("values of other settings", || check(VALUES)),
    ("files of network services", || check(SERVICES)),
];

const fn url(env: Env<'static>, parts: &'static [&'static str]) -> Case {
    Case {
        role: "client",
        env,
        file: None,
        parts,
    }
}

const URLS: &[Case] = &[
    url(
        &[("NSM_NETWORK_SERVICES", "no-scheme")],
        &["--network-services", "\"no-scheme\"", "scheme", "kernel://"],
    ),
    url(
        &[("NSM_NETWORK_SERVICES", "kernel://")],
        &["--network-services", "\"kernel://\"", "service"],
    ),
    url(
        &[("NSM_NETWORK_SERVICES", "kernel://s/nsm-1?a=%zz")],
        &["--network-services", "labels", "%zz"],
    ),
    url(
        &[("NSM_NETWORK_SERVICES", "kernel://s/a-name-of-sixteen")],
        &[
            "--network-services",
            "interface",
            "\"a-name-of-sixteen\"",
            "15",
        ],
    ),
    url(
        &[("NSM_NETWORK_SERVICES", "pigeon://s/nsm-1")],
        &["--network-services", "scheme", "pigeon", "kernel"],
    ),
    url(&[], &["--network-services"]),
    url(
        &[
            ("NSM_NETWORK_SERVICES", "kernel://s"),
            ("NSM_CONNECT_TO", "somewhere://else"),
        ],
        &["--connect-to", "somewhere://else", "unix:///path"],
    ),
];

const fn file(role: &'static str, text: &'static str, parts: &'static [&'static str]) -> Case {
    Case {
        role,
        env: &[],
        file: Some(text),
        parts,
    }
}

const FILES: &[Case] = &[
    file(
        "client",
        "network_services: kernel://s\ncolour: blue\n",
        &[
            "--config",
            "\"colour\"",
            "no setting of `nsm client`",
            "network_services",
        ],
    ),
    file("manager", "- a\n- list\n", &["--config", "mapping"]),
    file(
        "client",
        "network_services: {a: {b: c}}\n",
        &["--config", "line 1", "a setting is a text"],
    ),
    file(
        "client",
        "network_services: kernel://s\nrequest_timeout: soon\n",
        &["--request-timeout", "soon"],
    ),
    file(
        "endpoint",
        "service_names: [s]\nmtu: large\n",
        &["--mtu", "large"],
    ),
    file("client", "a: b: c\n", &["--config", "line 1"]),
];

const fn value(role: &'static str, env: Env<'static>, parts: &'static [&'static str]) -> Case {
    Case {
        role,
        env,
        file: None,
        parts,
    }
}

const SERVICE: (&str, &str) = ("NSM_SERVICE_NAMES", "s");

const VALUES: &[Case] = &[
    value(
        "endpoint",
        &[SERVICE, ("NSM_CIDR_PREFIX", "10.0.0.0/33")],
        &["--cidr-prefix", "10.0.0.0/33"],
    ),
    value(
        "endpoint",
        &[SERVICE, ("NSM_ROUTES", "everywhere")],
        &["--routes", "everywhere", "192.168.0.0/16"],
    ),
    value(
        "endpoint",
        &[SERVICE, ("NSM_LABELS", "nameless")],
        &["--labels", "\"nameless\"", "name:value"],
    ),
    value(
        "endpoint",
        &[SERVICE, ("NSM_DNS_CONFIGS", "[{\"dns_servers\": []}]")],
        &["--dns-configs", "dns_servers"],
    ),
    value(
        "endpoint",
        &[SERVICE, ("NSM_PAYLOAD", "TRUCKS")],
        &["--payload", "TRUCKS", "ETHERNET"],
    ),
    value(
        "endpoint",
        &[
            SERVICE,
            ("NSM_PASSTHROUGH", "true"),
            ("NSM_FILTER", "/no/such/file"),
        ],
        &["--filter", "/no/such/file"],
    ),
    value(
        "manager",
        &[("NSM_LISTEN_ON", "carrier://pigeon")],
        &["--listen-on", "carrier://pigeon"],
    ),
    value(
        "registry",
        &[("NSM_EXPIRE_PERIOD", "never")],
        &["--expire-period", "never"],
    ),
    value(
        "forwarder",
        &[("NSM_TUNNEL_IP", "here")],
        &["--tunnel-ip", "here"],
    ),
    value(
        "forwarder",
        &[("NSM_LABELS", "x")],
        &["--labels", "\"x\"", "name:value"],
    ),
    value(
        "client",
        &[
            ("NSM_NETWORK_SERVICES", "kernel://s"),
            ("SPIFFE_ENDPOINT_SOCKET", "unix:///no/such/agent"),
            ("NSM_IDENTITY_TIMEOUT", "200ms"),
        ],
        &["/no/such/agent", "SPIFFE_ENDPOINT_SOCKET", "start it"],
    ),
];

const SERVICES: &[Case] = &[
    file(
        "apply",
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {name: s}\nspec:\n  colour: blue\n",
        &["-f", "line 5", "colour"],
    ),
    file(
        "apply",
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {name: s}\nspec:\n  matches: yes please\n",
        &["-f", "line 5", "matches"],
    ),
    file(
        "apply",
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {name: s}\nspec:\n  matches:\n    - source_selector: {app: a}\n      routes: [{destination_selector: {app: b}}]\n    - sourceSelector: {app: c}\n      routes: [{destination_selector: {app: d}}]\n",
        &["-f", "sourceSelector", "source_selector"],
    ),
];

fn check(cases: &[Case]) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut wrong = Vec::new();
    for case in cases {
        let mut command = Command::new(NSM);
        command.arg(case.role).envs(case.env.iter().copied());
        let path = std::env::temp_dir().join(format!(
            "nsm-settings-{}-{}.yaml",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::SeqCst)
        ));
        if let Some(text) = case.file {
            fs::write(&path, text).unwrap();
            let flag = if case.role == "apply" {
                "-f"
            } else {
                "--config"
            };
            command.arg(flag).arg(&path);
        }
        let began = Instant::now();
        command.env("NSM_LOG_LEVEL", "ERROR");
        let output = output(command);
        let _there_was_none = fs::remove_file(&path);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let good = std::panic::catch_unwind(|| {
            assert!(!output.status.success(), "accepted: {:?}", case.env);
            says(&said, case.parts);
            // The parser of flags lists what is missing, and shows the usage below.
            let lines = said.lines().take_while(|line| !line.is_empty()).count();
            let most = if said.contains("required") { 2 } else { 1 };
            assert!(lines <= most, "one line: {said}");
            assert!(began.elapsed() < AT_ONCE, "said too late: {said}");
        });
        if good.is_err() {
            wrong.push(format!(
                "{} {:?} {:?}: {said}",
                case.role, case.env, case.file
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What it says, or that it had to be ended.
fn output(mut command: Command) -> std::process::Output {
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < AT_ONCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ended_already = child.kill();
    child.wait_with_output().unwrap()
}
