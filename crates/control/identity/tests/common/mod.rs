//! An agent in the test's own process.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test file uses its part, and a test says with a panic what failed"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nsm_identity::{
    address::AgentAddress,
    ca::{EntrySource, Node, Root, WorkloadServer},
    workload::client::SpiffeWorkloadAPIClient,
};
use nsm_model::spiffe::SpiffeId;
use tonic::transport::Channel;

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub fn entry_for(name: &str, uid: u32) -> String {
    format!("entries: [{{id: {}, selectors: {{uid: {uid}}}}}]", id(name))
}

/// A root and node in one, with an entries file and a socket in a folder of its own.
pub struct Agent {
    pub folder: tempfile::TempDir,
    pub root: Arc<Root>,
    pub node: Arc<Node>,
    pub server: Option<WorkloadServer>,
}

impl Agent {
    pub fn new(entries: &str, svid_life: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::generate("example.org".parse().unwrap()).unwrap());
        let node = Arc::new(Node::local(root.clone(), "here").unwrap());
        fs::write(folder.path().join("entries.yaml"), entries).unwrap();
        let mut agent = Self {
            folder,
            root,
            node,
            server: None,
        };
        agent.start(svid_life);
        agent
    }

    pub fn start(&mut self, svid_life: Duration) {
        self.server = Some(serve(&self.node, self.folder.path(), svid_life));
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn set_entries(&self, entries: &str) {
        fs::write(self.folder.path().join("entries.yaml"), entries).unwrap();
    }

    pub async fn raw(&self) -> SpiffeWorkloadAPIClient<Channel> {
        let channel = AgentAddress::Unix(self.socket()).connect().await.unwrap();
        SpiffeWorkloadAPIClient::new(channel)
    }
}

pub fn serve(node: &Arc<Node>, folder: &Path, svid_life: Duration) -> WorkloadServer {
    let entries = EntrySource::file(&folder.join("entries.yaml"), &node.trust_domain()).unwrap();
    WorkloadServer::serve(node.clone(), entries, &folder.join("agent.sock"), svid_life).unwrap()
}
