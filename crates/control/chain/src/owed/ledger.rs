//! Closes that are owed, as they are written down: a role that is started again still owes them.

use std::{fmt, sync::Arc};

use nsm_api::connection::Connection;
use nsm_model::url::EndpointUrl;
use serde::{Deserialize, Serialize};

use super::{Known, Owed, Place};
use crate::{
    Expected, Noted, Target,
    downstream::{Downstream, Resolve},
    journal,
};

type Find = dyn Fn(String, &Connection) -> Resolve + Send + Sync;

/// What a role has written down of its debts, and how it finds their hops again.
#[derive(Clone)]
pub struct Ledger {
    noted: Noted,
    /// The endpoint of this name, for this connection.
    find: Arc<Find>,
    /// Who must answer at an address that is the same for everybody.
    expected: Expected,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({} of before)", self.noted.known.len())
    }
}

impl Ledger {
    /// Those of before, and where new ones are written down. `find` finds an endpoint by its name,
    /// for a connection; at an address, `expected` must answer.
    pub fn new(
        noted: Noted,
        expected: Expected,
        find: impl Fn(String, &Connection) -> Resolve + Send + Sync + 'static,
    ) -> Self {
        Self {
            noted,
            find: Arc::new(find),
            expected,
        }
    }
}

/// A debt as it is written. Fields are added, never given another meaning.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Our id of the connection.
    id: String,
    /// The endpoint by which the hop is found, and its address where that is everybody's.
    name: Option<String>,
    url: Option<String>,
    /// The connection as the hop has it, without tokens.
    #[serde(with = "journal::message")]
    connection: Connection,
}

fn key((id, place): &Place) -> String {
    format!("{id} {place}")
}

impl Owed {
    /// The same, across restarts.
    #[must_use]
    pub fn journalled(mut self, ledger: Ledger) -> Self {
        let Ledger {
            noted: Noted { journal, known },
            find,
            expected,
        } = ledger;
        self.journal = journal;
        for (place, bytes) in known {
            let Ok(written) = serde_json::from_slice::<Written>(&bytes) else {
                tracing::warn!(place, "an owed close cannot be read and is left out");
                continue;
            };
            let Written {
                id,
                name,
                url,
                connection,
            } = written;
            let resolve = name.map(|name| find(name, &connection));
            let target = url.map(|url| Target::Url(EndpointUrl::parse(&url)));
            let found = target.map(|target| (target, Some(expected.clone())));
            let mut left = Downstream::found(found, resolve);
            left.connection = connection;
            self.later(&id, left, Known::Asked);
        }
        self
    }

    /// Only where the hop has said to us how it calls the connection: by that alone it can be named
    /// after a restart, without the tokens of the hops before us. What a caller says of it would
    /// close anybody's connection then, on our word.
    pub(super) fn write(&self, place: &Place, left: &Downstream, known: Known) {
        let named = known == Known::Asked && left.hop().is_some();
        let Some(journal) = self.journal.as_ref().filter(|_| named) else {
            return;
        };
        let (name, url) = left.address();
        let mut connection = left.connection.clone();
        journal::without_tokens(connection.path.get_or_insert_default());
        let written = Written {
            id: place.0.clone(),
            name,
            url,
            connection,
        };
        journal.keep(
            &key(place),
            serde_json::to_vec(&written).unwrap_or_default(),
        );
    }

    pub(super) fn strike(&self, place: &Place) {
        if let Some(journal) = &self.journal {
            journal.forget(&key(place));
        }
    }
}
