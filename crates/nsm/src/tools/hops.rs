//! Hops tell of the connections that go through them: every one is asked at once.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use nsm_api::{
    connection::{Connection, MonitorScopeSelector},
    registry::NetworkServiceEndpoint,
};
use nsm_chain::{Code, Directory as _, Error, Target};
use nsm_model::url::EndpointUrl;
use nsm_rpc::{client, monitor::INITIAL_BATCH};
use tokio::time::{Instant, timeout_at};

use super::{operator::Operator, records::offers};
use crate::roles::manager::MANAGER_SERVICE;

/// How many hops are asked at the same time: each costs a handshake.
const AT_ONCE: usize = 32;

/// A full first event is followed by the rest at once: after this silence there is none.
const QUIET: Duration = Duration::from_millis(300);

/// The most connections that one hop is listened to for.
const MAX_CONNECTIONS: usize = 262_144;

/// What one hop told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Who.
    pub(crate) who: String,
    /// Its connections, or why there are none.
    pub(crate) answer: Result<Vec<Connection>, Error>,
    /// It is the manager that we ask in place of the registry.
    door: bool,
}

impl Told {
    /// The name of the manager that is asked in place of the registry, as its connections have it:
    /// it shows everybody but itself.
    pub(crate) fn door(&self) -> Option<&str> {
        let one = self.answer.as_ref().ok()?.first().filter(|_| self.door)?;
        let own = one.path.path_segments.get(one.path.index as usize)?;
        Some(&own.name)
    }
}

/// Whom to ask, and where.
#[derive(Debug)]
enum Hop {
    /// At an address that its record has.
    At(String, EndpointUrl),
    /// The manager that we ask in place of the registry.
    Door(EndpointUrl),
    /// Through the socket that the manager passes on to whoever looks it up.
    Through(NetworkServiceEndpoint),
}

/// Asks every manager of these records, and the one that is our door; with `local`, also what of
/// the records is reached through it on this node.
pub(crate) async fn ask(
    operator: &Operator,
    records: &[NetworkServiceEndpoint],
    local: bool,
) -> Vec<Told> {
    let managers = records.iter().filter(|one| offers(one, MANAGER_SERVICE));
    let mut hops: Vec<Hop> = managers
        .map(|one| Hop::At(one.name.clone(), EndpointUrl::parse(&one.url)))
        .collect();
    if let Some(url) = &operator.manager {
        hops.push(Hop::Door(url.clone()));
        let near = records
            .iter()
            .filter(|one| local && EndpointUrl::parse(&one.url).is_local());
        hops.extend(near.cloned().map(Hop::Through));
    }
    let asked = hops.into_iter().map(|hop| async move {
        let deadline = operator.deadline();
        let late = || Error::new(Code::DeadlineExceeded, "no answer in time (--timeout)");
        let answer = match timeout_at(deadline, listen(operator, &hop, deadline)).await {
            Ok(answer) => answer,
            Err(_) => Err(late()),
        };
        let door = matches!(hop, Hop::Door(_));
        let who = match hop {
            Hop::At(name, _) => name,
            Hop::Door(url) => url.to_string(),
            Hop::Through(record) => record.name,
        };
        Told { who, answer, door }
    });
    let mut told: Vec<Told> = stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    told.sort_by(|a, b| a.who.cmp(&b.who));
    told
}

/// The connections that a hop has now.
async fn listen(
    operator: &Operator,
    hop: &Hop,
    deadline: Instant,
) -> Result<Vec<Connection>, Error> {
    let target = match hop {
        Hop::At(_, url) | Hop::Door(url) => Target::Url(url.clone()),
        Hop::Through(record) => operator.directory().target(record, deadline).await?,
    };
    let hop = operator.transport.hop(&target, deadline).await?;
    let selector = MonitorScopeSelector::default();
    let mut events = client::monitor(&hop.peer, &hop.tokens, selector, deadline).await?;
    let mut connections = BTreeMap::new();
    let mut next = events.next().await;
    while let Some(event) = next {
        let event = event?;
        let full = event.connections.len() == INITIAL_BATCH;
        connections.extend(event.connections);
        if !full || connections.len() >= MAX_CONNECTIONS {
            break;
        }
        next = tokio::time::timeout(QUIET, events.next())
            .await
            .unwrap_or_default();
    }
    Ok(connections.into_values().collect())
}
