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
}

/// Whom to ask.
#[derive(Debug)]
struct Hop {
    name: String,
    target: Result<Target, Error>,
}

/// Asks every manager of these records, and the one that is our door; with `local`, also what of
/// the records is reached through it on this node.
pub(crate) async fn ask(
    operator: &Operator,
    records: &[NetworkServiceEndpoint],
    local: bool,
) -> Vec<Told> {
    let mut hops: BTreeMap<String, Hop> = BTreeMap::new();
    for record in records.iter().filter(|one| offers(one, MANAGER_SERVICE)) {
        let target = Ok(Target::Url(EndpointUrl::parse(&record.url)));
        let name = record.name.clone();
        hops.insert(record.url.clone(), Hop { name, target });
    }
    if let Some(url) = &operator.manager {
        hops.entry(url.to_string()).or_insert_with(|| Hop {
            name: url.to_string(),
            target: Ok(Target::Url(url.clone())),
        });
        let near = records
            .iter()
            .filter(|one| local && EndpointUrl::parse(&one.url).is_local());
        for record in near {
            let deadline = operator.deadline();
            // The answer that named it brought its socket along.
            let target = operator.directory().target(record, deadline).await;
            let name = record.name.clone();
            hops.insert(format!("{name} {}", record.url), Hop { name, target });
        }
    }
    let asked = hops.into_values().map(|hop| async move {
        let deadline = operator.deadline();
        let listening = listen(operator, hop.target, deadline);
        let answer = match timeout_at(deadline, listening).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                Code::DeadlineExceeded,
                "did not answer in time (--timeout)",
            )),
        };
        Told {
            who: hop.name,
            answer,
        }
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
    target: Result<Target, Error>,
    deadline: Instant,
) -> Result<Vec<Connection>, Error> {
    let hop = operator.transport.hop(&target?, deadline).await?;
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
