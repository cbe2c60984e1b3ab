//! Who may connect to a role's unix sockets.

use std::fs;

use anyhow::{Context as _, bail};
use clap::Args;
use nsm_identity::sockfile::Access;
use serde::Serialize;

/// Settings of every role that listens.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Sockets {
    /// Permission bits of unix sockets that it listens on, octal: whoever may write may connect
    #[arg(long, env = "NSM_SOCKET_MODE", value_parser = written_mode, default_value = "0666")]
    socket_mode: String,
    /// The group of these sockets, by name or number; the process must be a member of it
    #[arg(long, env = "NSM_SOCKET_GROUP")]
    socket_group: Option<String>,
}

/// Read, write and run, for owner, group and others.
const MODE_BITS: u32 = 0o777;

/// Where groups have their names (group(5)).
const GROUPS: &str = "/etc/group";

impl Sockets {
    /// As a listener takes them.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        let mode = mode(&self.socket_mode)
            .map_err(|error| anyhow::anyhow!("--socket-mode {:?}: {error}", self.socket_mode))?;
        let group = match &self.socket_group {
            None => None,
            Some(text) => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => Some(named(text).with_context(|| format!("--socket-group {text:?}"))?),
            },
        };
        Ok(Access { mode, group })
    }
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !MODE_BITS == 0 => Ok(mode),
        Ok(_) | Err(_) => Err("write permission bits, such as 0660".to_owned()),
    }
}

fn written_mode(text: &str) -> Result<String, String> {
    mode(text).map(|_| text.to_owned())
}

fn named(name: &str) -> anyhow::Result<u32> {
    let text = fs::read_to_string(GROUPS).context(GROUPS)?;
    match number(&text, name) {
        Some(number) => Ok(number),
        None => bail!("{GROUPS} has no such group: write a name from there, or a number"),
    }
}

/// `name:password:number:members`.
fn number(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_groups() {
        for (text, read) in [
            ("0660", Some(0o660)),
            ("600", Some(0o600)),
            ("0", Some(0)),
            ("0o660", None),
            ("1777", None),
            ("rw", None),
            ("", None),
        ] {
            assert_eq!(mode(text).ok(), read, "{text:?}");
        }
        let groups = "root:x:0:\nnsm:x:987:alice,bob\nbroken\nodd:x:many:\n";
        for (name, found) in [
            ("root", Some(0)),
            ("nsm", Some(987)),
            ("broken", None),
            ("odd", None),
            ("alice", None),
        ] {
            assert_eq!(number(groups, name), found, "{name}");
        }
    }
}
