//! The packet filter of a passthrough endpoint: nf_tables in the bridge family (nf_tables.h), by
//! netlink.
//!
//! One table, `nsm`, with one chain at the bridge's forward hook. In order it passes address
//! resolution, ICMP errors, later fragments and replies; then come the rules, then the default.
//! Connection tracking does not exist in the bridge family of a user namespace, so a packet that a
//! rule allows records its flow in a set with timeouts, and a packet of the reversed flow is a
//! reply.
//!
//! Who initiates is told by the bridge port a packet comes in by: the ports are kept in two sets
//! ([`Filter::add_port`]).

mod counters;
mod error;
mod expr;
mod flow;
mod lower;
mod message;
mod socket;

use nsm_model::filter::FilterRules;

pub use counters::{RuleCounter, Subject};
pub use error::FilterError;
pub use flow::{FLOW_TIMEOUT_MS, FLOWS_MAX};
use message::Message;
use socket::Socket;

/// Name of the table and of what is in it.
const TABLE: &str = "nsm";
const CHAIN: &str = "forward";
const ALLOW_CHAIN: &str = "allow";
const CLIENT_PORTS: &str = "client_ports";
const ENDPOINT_PORTS: &str = "endpoint_ports";
/// Longest interface name (IFNAMSIZ without the terminating zero), and the length of a name in a
/// set.
const NAME_MAX: usize = 15;
const NAME_KEY: usize = 16;

/// Which side a bridge port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Towards the client that asked for the connection.
    Client,
    /// Towards the next endpoint in the chain.
    Endpoint,
}

impl Role {
    fn set(self) -> &'static str {
        match self {
            Self::Client => CLIENT_PORTS,
            Self::Endpoint => ENDPOINT_PORTS,
        }
    }
}

/// The filter of one namespace: that in which it was opened, which it keeps alive.
#[derive(Debug)]
pub struct Filter {
    socket: Socket,
}

impl Filter {
    /// Opens the filter of the calling thread's namespace; nothing is changed yet.
    ///
    /// # Errors
    /// [`FilterError::Kernel`] when the kernel gives no netfilter socket.
    pub fn open() -> Result<Self, FilterError> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// Puts these rules in force in place of the former ones, all at once; ports and flows stay.
    ///
    /// # Errors
    /// [`FilterError::Unsupported`], [`FilterError::TooLarge`] and [`FilterError::Kernel`]; the
    /// former rules then stay.
    pub fn replace(&mut self, rules: &FilterRules) -> Result<(), FilterError> {
        let lowered = lower::lower(rules);
        let mut batch = frame();
        for set in &lowered.sets {
            batch.extend([
                Message::anonymous_set(TABLE, set),
                Message::intervals(TABLE, set),
            ]);
        }
        batch.extend(lowered.rules.iter().map(|rule| {
            let mark = rule.subject.map(Subject::mark);
            Message::rule(
                TABLE,
                rule.chain,
                &rule.exprs,
                mark.as_ref().map(<[u8; 4]>::as_slice),
            )
        }));
        self.socket.transact("replace rules of", TABLE, &batch)
    }

    /// Tells on which side a port of the bridge is. The filter must have rules already; telling
    /// twice is fine.
    ///
    /// # Errors
    /// [`FilterError::PortName`] for a name no interface can have; [`FilterError::Kernel`].
    pub fn add_port(&mut self, name: &str, role: Role) -> Result<(), FilterError> {
        self.socket.transact(
            "add port",
            name,
            &[Message::element(TABLE, role.set(), &key(name)?, true)],
        )
    }

    /// Forgets a port, on whichever side it was. An unknown one is fine.
    ///
    /// # Errors
    /// As [`Filter::add_port`].
    pub fn remove_port(&mut self, name: &str) -> Result<(), FilterError> {
        let key = key(name)?;
        for role in [Role::Client, Role::Endpoint] {
            let removed = self.socket.transact(
                "remove port",
                name,
                &[Message::element(TABLE, role.set(), &key, false)],
            );
            removed.or_else(|error| {
                if error.is_absent() {
                    Ok(())
                } else {
                    Err(error)
                }
            })?;
        }
        Ok(())
    }

    /// What each rule has decided so far, in the order of the rules, then replies and the default.
    /// A rule counts the packets of those who initiate; what comes back counts as replies.
    ///
    /// # Errors
    /// [`FilterError::Kernel`].
    pub fn counters(&mut self) -> Result<Vec<RuleCounter>, FilterError> {
        let answers =
            self.socket
                .dump("read counters of", TABLE, Message::get_rules(TABLE, CHAIN))?;
        Ok(counters::sum(&answers))
    }

    /// Removes the table: every packet passes. Without one nothing happens.
    ///
    /// # Errors
    /// [`FilterError::Kernel`].
    pub fn remove(&mut self) -> Result<(), FilterError> {
        let removed = self
            .socket
            .transact("remove", TABLE, &[Message::delete_table(TABLE)]);
        removed.or_else(|error| {
            if error.is_absent() {
                Ok(())
            } else {
                Err(error)
            }
        })
    }
}

/// The counters in one datagram of a dump with this sequence number, for the fuzz targets.
pub(crate) fn counters_in(datagram: &[u8], sequence: u32) -> Result<Vec<RuleCounter>, i32> {
    let mut dump = socket::Dump::new(sequence);
    dump.take(socket::split(datagram))?;
    Ok(counters::sum(&dump.all))
}

/// How many rules and sets of the kernel's these rules become, for the fuzz targets.
pub(crate) fn lowered(rules: &FilterRules) -> (usize, usize) {
    let lowered = lower::lower(rules);
    (lowered.rules.len(), lowered.sets.len())
}

/// Table, sets and chains (made where they are missing), and the chains emptied.
fn frame() -> Vec<Message> {
    let mut messages = vec![Message::table(TABLE)];
    messages.extend(
        [CLIENT_PORTS, ENDPOINT_PORTS].map(|name| Message::name_set(TABLE, name, NAME_KEY)),
    );
    messages.extend(flow::Family::BOTH.map(|family| Message::flow_set(TABLE, family)));
    messages.extend([
        Message::forward_chain(TABLE, CHAIN),
        Message::chain(TABLE, ALLOW_CHAIN),
    ]);
    messages.extend([CHAIN, ALLOW_CHAIN].map(|chain| Message::empty_chain(TABLE, chain)));
    messages
}

fn key(name: &str) -> Result<[u8; NAME_KEY], FilterError> {
    let good = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(['\0', '/']);
    if !good {
        return Err(FilterError::PortName {
            name: name.to_owned(),
        });
    }
    let mut key = [0; NAME_KEY];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Ok(key)
}
