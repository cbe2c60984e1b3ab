//! An authority, a registry and managers in this process, and the built program against them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_api::{
    connection::{Connection, Path as ConnectionPath, PathSegment},
    registry::{NetworkServiceEndpoint, NetworkServiceLabels},
};
use nsm_chain::{Registrar as _, Target, Tasks};
use nsm_identity::{
    IdentitySource,
    ca::{Entry, EntrySource, Node, Root, Selectors, WorkloadServer},
};
use nsm_model::{spiffe::SpiffeId, url::EndpointUrl};
use nsm_policy::roles::RoleSource;
use nsm_registry::{
    Config, Registry, SystemClock, chain, remote::Remote, serve::serve, store::memory::MemoryStore,
};
use nsm_rpc::{Listener, Pool, Server, TokenSource, Transport, monitor};
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

/// How long everything lives: longer than a test, and the same number of letters for a while.
pub(crate) const LIFE: Duration = Duration::from_secs(600);

/// What a run of the program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) registry: EndpointUrl,
    root: Arc<Root>,
    node: Arc<Node>,
    agent: WorkloadServer,
    agents: Vec<WorkloadServer>,
    tasks: Tasks,
    /// Ports by a short name.
    addresses: Vec<(String, EndpointUrl)>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.tasks.guard());
    }
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://nsm.test{path}").parse().unwrap()
}

/// The built program.
pub(crate) fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_nsm")).canonicalize().unwrap()
}

fn agent(node: &Arc<Node>, folder: &Path, name: &str, who: &str) -> WorkloadServer {
    let selectors = Selectors {
        exe: Some(program()),
        ..Selectors::default()
    };
    let entry = Entry {
        id: id(who),
        selectors,
    };
    let entries = EntrySource::list(vec![entry], &node.trust_domain()).unwrap();
    WorkloadServer::serve(node.clone(), entries, &folder.join(name), LIFE).unwrap()
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::generate("nsm.test".parse().unwrap()).unwrap());
        let node = Arc::new(Node::local(root.clone(), "here").unwrap());
        let agent = agent(&node, folder.path(), "agent.sock", "/operator/ada");
        let mut stage = Self {
            folder,
            registry: EndpointUrl::parse("tcp://127.0.0.1:0"),
            root,
            node,
            agent,
            agents: Vec::new(),
            tasks: Tasks::new(),
            addresses: Vec::new(),
        };
        let source = stage.source("/registry");
        let parts = stage.parts(&source).await;
        stage.registry = stage
            .serve("REG", source, serve(Server::new(), &parts))
            .await;
        stage
    }

    /// A registry of its own.
    async fn parts(&self, source: &IdentitySource) -> chain::Parts {
        let registry = Registry::open(
            Arc::new(MemoryStore::default()),
            Arc::new(SystemClock),
            Config::default(),
        );
        chain::Parts {
            registry: registry.await.unwrap(),
            tokens: Arc::new(TokenSource::new(source.clone())),
            tasks: self.tasks.clone(),
            lifetime: LIFE,
            roles: RoleSource::standard(&"nsm.test".parse().unwrap()),
        }
    }

    fn source(&self, path: &str) -> IdentitySource {
        IdentitySource::fixed(self.root.issue(&id(path), LIFE * 2).unwrap())
    }

    async fn serve(&mut self, port: &str, source: IdentitySource, server: Server) -> EndpointUrl {
        let listener = Listener::bind(&[EndpointUrl::parse("tcp://127.0.0.1:0")])
            .await
            .unwrap();
        let address = listener.addresses()[0].clone();
        let routes = server.routes().await;
        self.tasks.spawn(async move {
            let never = std::future::pending::<()>();
            listener.serve(routes, &source, never).await.unwrap();
        });
        self.addresses.push((port.to_owned(), address.clone()));
        address
    }

    /// A manager that has these connections and shows them to operators, registered.
    pub(crate) async fn manager(
        &mut self,
        name: &str,
        connections: Vec<Connection>,
    ) -> EndpointUrl {
        let source = self.source(&format!("/{name}"));
        let url = self.serve("MGR", source, monitored(connections)).await;
        self.register(name, "nsmgr", &url.to_string(), &[]).await;
        url
    }

    /// A manager that is a door: it answers for a registry, in which nothing is.
    pub(crate) async fn door(&mut self, name: &str, connections: Vec<Connection>) -> EndpointUrl {
        let source = self.source(&format!("/{name}"));
        let parts = self.parts(&source).await;
        self.serve("DOOR", source, serve(monitored(connections), &parts))
            .await
    }

    /// Registers an endpoint as itself.
    pub(crate) async fn register(
        &self,
        name: &str,
        service: &str,
        url: &str,
        labels: &[(&str, &str)],
    ) {
        let source = self.source(&format!("/{name}"));
        let pool = Pool::new(source.clone(), self.tasks.clone());
        let transport = Transport::new(pool, TokenSource::new(source));
        let remote = Remote::new(transport, Target::Url(self.registry.clone()));
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let labels = NetworkServiceLabels {
            labels,
            ..Default::default()
        };
        let endpoint = NetworkServiceEndpoint {
            name: name.to_owned(),
            url: url.to_owned(),
            network_service_names: vec![service.to_owned()],
            network_service_labels: [(service.to_owned(), labels)].into(),
            ..Default::default()
        };
        remote
            .register(endpoint, Instant::now() + Duration::from_secs(10))
            .await
            .unwrap();
    }

    /// Another agent, at which the program is somebody else.
    pub(crate) fn agent_for(&mut self, who: &str) -> String {
        let name = format!("agent-{}.sock", self.agents.len());
        self.agents
            .push(agent(&self.node, self.folder.path(), &name, who));
        self.agents.last().unwrap().address()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env_clear()
            .env("NSM_REGISTRY_URL", self.registry.to_string())
            .env("SPIFFE_ENDPOINT_SOCKET", self.agent.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[], "").await
    }

    /// Runs the program with other variables and an input.
    pub(crate) async fn run_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        input: &str,
    ) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that refuses its arguments reads nothing.
        let _unread = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the program for each line and tells the story: results as they are, what goes to
    /// standard error after `! `, an exit code that is not 0 after `= `.
    ///
    /// A line begins with variables (`NAME=value`), goes on with arguments, and ends with `< NAME`
    /// where one of the inputs is fed.
    pub(crate) async fn transcript(&self, lines: &[&str], inputs: &[(&str, &str)]) -> String {
        let mut story = String::new();
        for line in lines {
            let (command, input) = line.split_once(" < ").unwrap_or((line, ""));
            let input = inputs.iter().find(|(name, _)| *name == input);
            let words: Vec<&str> = command.split_whitespace().collect();
            let (variables, arguments) =
                words.split_at(words.iter().take_while(|word| word.contains('=')).count());
            let variables: Vec<_> = variables
                .iter()
                .filter_map(|word| word.split_once('='))
                .collect();
            let ran = self
                .run_with(arguments, &variables, input.map_or("", |(_, text)| text))
                .await;
            story.push_str(&format!("$ {line}\n{}", ran.out));
            for line in ran.err.lines() {
                story.push_str(format!("! {line}").trim_end());
                story.push('\n');
            }
            match ran.code {
                Some(0) => {}
                Some(code) => story.push_str(&format!("= {code}\n")),
                None => story.push_str("= killed\n"),
            }
        }
        self.known(&story)
    }

    /// Runs the program with a standard output that nobody reads.
    pub(crate) async fn run_unread(&self, arguments: &[&str]) -> Ran {
        let mut child = self.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        Ran {
            code: output.status.code(),
            out: String::new(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Text with what differs from run to run in other words of the same width.
    fn known(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let mut text = text.replace(&folder, "FOLDER");
        for (name, url) in &self.addresses {
            let EndpointUrl::Tcp { port, .. } = url else {
                continue;
            };
            let port = port.to_string();
            text = text.replace(&port, &format!("{name:.<wide$}", wide = port.len()));
        }
        for second in 50..60 {
            text = text.replace(&format!("9m{second}s"), "9m5_s");
        }
        text
    }
}

/// A server that shows these connections to operators.
fn monitored(connections: Vec<Connection>) -> Server {
    let table = monitor::Connections::new();
    for connection in connections {
        table.update(connection);
    }
    let operator = |caller: &SpiffeId| caller.path().starts_with("/operator");
    Server::new().monitor(monitor::Service::new(table, operator))
}

/// What the hop at `index` of a path of names tells.
pub(crate) fn connection(hops: &str, index: u32, mechanism: &str) -> Connection {
    let ends = SystemTime::now() + LIFE;
    let segment = |(at, name): (usize, &str)| PathSegment {
        name: name.to_owned(),
        id: format!("{name}-{at}"),
        expires: buffa::MessageField::some(ends.into()),
        ..Default::default()
    };
    let path_segments: Vec<_> = hops.split_whitespace().enumerate().map(segment).collect();
    let mut connection = Connection {
        id: path_segments[index as usize].id.clone(),
        network_service: "vpn".to_owned(),
        payload: "ETHERNET".to_owned(),
        path: buffa::MessageField::some(ConnectionPath {
            index,
            path_segments,
            ..Default::default()
        }),
        ..Default::default()
    };
    let of = connection.mechanism.get_or_insert_default();
    of.r#type = mechanism.to_owned();
    let context = connection.context.get_or_insert_default();
    context.MTU = 1446;
    let ip = context.ip_context.get_or_insert_default();
    ip.src_ip_addrs = vec!["172.16.1.1/32".to_owned()];
    ip.dst_ip_addrs = vec!["172.16.1.0/32".to_owned()];
    connection
}
