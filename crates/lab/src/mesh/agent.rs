//! The identity agents of a mesh, one on each node; the root authority is the first one.

use std::os::unix::fs::DirBuilderExt as _;

use super::files::{START, said, wait, write};
use super::{AUTHORITY_PORT, Mesh, Program, READY, TRUST_DOMAIN};
use crate::cell::{Network, Output, Process, Run, Spec};
use crate::error::LabError;
use crate::node::{IDENTITY_FOLDER, Node};

/// Where an agent keeps its keys.
const KEYS_FOLDER: &str = "/run/ca";
/// Where an agent finds who is who.
const ENTRIES_FOLDER: &str = "/run/entries";

impl Mesh {
    pub(super) fn agent(&self, node: &Node, at: usize) -> Result<Process, LabError> {
        let name = format!("ca-{}", node.name());
        let other = self.config.others.get(&("ca", at));
        // Ours join the root on the first node; others find its keys themselves.
        let root = (at > 0).then(|| &self.nodes[0].node);
        let keys = match (other, root) {
            (Some(_), Some(root)) => root.folder().join("ca"),
            _ => node.folder().join("ca"),
        };
        let again = keys.exists();
        // Keys are in it: nobody else may look.
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&keys);
        made.map_err(|e| LabError::file("create folder", &keys, e))?;
        let entries = node.folder().join("entries");
        self.lab.folder(&entries)?;
        if !entries.join("entries.yaml").exists() {
            write(&entries.join("entries.yaml"), "entries: []\n")?;
        }
        // Agents attest processes of every cell, so they see all; the root is reached over the
        // underlay, where the node's address is.
        let spec = Spec::new(&name, Network::Of(node.cell().clone()))
            .sees_all_processes()
            .bind(&keys, KEYS_FOLDER, false)
            .bind(&entries, ENTRIES_FOLDER, true)
            .bind(node.identity_folder(), IDENTITY_FOLDER, false);
        let cell = self.lab.start(spec)?;
        let log = self.log(&name);
        let said = said(&log);
        let run = other.map_or_else(|| Run::nsm(["ca"]), Program::run);
        let run = run
            .env("NSM_CA_DIR", KEYS_FOLDER)
            .env("NSM_CA_ENTRIES", format!("{ENTRIES_FOLDER}/entries.yaml"))
            .env("NSM_TRUST_DOMAIN", TRUST_DOMAIN)
            .env("NODE_NAME", node.name())
            .env("NSM_CA_SOCKET", format!("{IDENTITY_FOLDER}/agent.sock"))
            .log(&log);
        let run = match root {
            None => run.env(
                "NSM_CA_LISTEN_ON",
                format!("{}:{AUTHORITY_PORT}", node.addresses().v4),
            ),
            Some(_) if other.is_some() => run,
            Some(root) => {
                let authority = root.addresses().v4;
                let run = run.env("NSM_CA_AUTHORITY", format!("{authority}:{AUTHORITY_PORT}"));
                // It joins once: after that it has its intermediate.
                if again {
                    run
                } else {
                    run.env("NSM_CA_JOIN_TOKEN", self.join_token(node.name())?)
                }
            }
        };
        let process = cell.spawn(self.level(run))?;
        wait(&process, &log, said, READY)?;
        Ok(process)
    }

    /// A join token for a node, from the root on the first one.
    fn join_token(&self, node: &str) -> Result<String, LabError> {
        let root = self.nodes[0].agent().cell().clone();
        let out = self.log(&format!("token-{node}"));
        let run = Run::nsm(["ca", "--dir", KEYS_FOLDER, "token", node])
            .env("NSM_TRUST_DOMAIN", TRUST_DOMAIN)
            .stdout(Output::File(out.clone()));
        let made = root.spawn(run)?.wait(START);
        let token = std::fs::read_to_string(&out).map_err(|e| LabError::file("read", &out, e))?;
        // It is a secret until it is used.
        drop(std::fs::remove_file(&out));
        if token.trim().is_empty() {
            return Err(LabError::NotReady {
                what: format!("join token of {node}"),
                log: format!("{made:?}"),
            });
        }
        Ok(token.trim().to_owned())
    }
}
