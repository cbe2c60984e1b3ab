//! What is owed, of which connection and where.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use nsm_model::spiffe::SpiffeId;
use tokio::time::Instant;

use crate::{Store, downstream::Downstream};

/// How long a connection that was asked for in vain is taken for one that is wanted: whoever asks
/// again waits less.
const WANTED: Duration = Duration::from_secs(15);
/// The most that are owed at a time, about 4 KiB each: what is more ends with its lease.
const MAX_OWED: usize = 4_096;
/// The most of them whose hop is known from the caller alone: whoever makes names up takes no
/// others' places.
const MAX_HEARSAY: usize = 64;

/// A connection, and the hop that it has left.
pub(super) type Place = (String, String);

/// See the module.
#[derive(Default)]
pub(super) struct Debts {
    pub(super) owed: BTreeMap<Place, Debt>,
    /// Where connections that stand remember which way they go.
    pub(super) standing: BTreeMap<String, Weak<Store>>,
    /// Connections that are being asked for.
    pub(super) asking: BTreeMap<String, usize>,
}

/// One Close.
pub(super) struct Debt {
    pub(super) left: Arc<Downstream>,
    /// The peer that is being told.
    pub(super) told: Option<SpiffeId>,
    /// When somebody asked for the connection the last time.
    pub(super) wanted: Option<Instant>,
    known: Known,
}

/// How it is known that a hop may have something of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was asked for it by us.
    Asked,
    /// A caller named it who closes what is not here.
    Hearsay,
}

impl Debts {
    /// What is owed of one connection.
    pub(super) fn of(&self, id: &str) -> impl Iterator<Item = (&Place, &Debt)> {
        let from = self.owed.range((id.to_owned(), String::new())..);
        from.take_while(move |((of, _), _)| of == id)
    }

    /// Somebody asks for the connection.
    pub(super) fn wanted(&mut self, id: &str) {
        let from = self.owed.range_mut((id.to_owned(), String::new())..);
        for (_, debt) in from.take_while(|((of, _), _)| of == id) {
            debt.wanted = Some(Instant::now());
        }
    }

    /// Owes it, where that is new and there is room.
    pub(super) fn insert(
        &mut self,
        id: &str,
        left: Downstream,
        known: Known,
    ) -> Option<(Place, Arc<Downstream>)> {
        let place = (id.to_owned(), left.place());
        if self.is_full(known) || self.owed.contains_key(&place) {
            return None;
        }
        let left = Arc::new(left);
        let debt = Debt {
            left: Arc::clone(&left),
            told: None,
            wanted: None,
            known,
        };
        self.owed.insert(place.clone(), debt);
        Some((place, left))
    }

    fn is_full(&self, known: Known) -> bool {
        let like = || self.owed.values().filter(|debt| debt.known == known);
        self.owed.len() >= MAX_OWED || known == Known::Hearsay && like().count() >= MAX_HEARSAY
    }

    /// Whether the connection is asked for, and was not granted yet.
    pub(super) fn is_wanted(&self, place: &Place) -> bool {
        let wanted = self.owed.get(place).and_then(|debt| debt.wanted);
        let stands = self.standing.get(&place.0);
        wanted.is_some_and(|at| at.elapsed() < WANTED)
            && stands.is_none_or(|store| store.strong_count() == 0)
    }
}
