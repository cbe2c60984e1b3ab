//! What `begin` writes down of an item, and how it takes the item up again.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{Factory, Table, Turn};
use crate::{Call, Code, Error, Kind, Next, Record, Store, Written};

/// How long closing an item may take that is gone for good: nobody waits for it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

impl<K: Kind> Turn<K> {
    /// Writes down what stands.
    pub(super) fn keep(&mut self) {
        if let (Some(journal), Some(record)) = (&self.table.journal, self.record()) {
            journal.keep(&self.id, record.write());
            self.state.kept = true;
        }
    }

    /// What stands, without tokens.
    fn record(&self) -> Option<Record<K>> {
        let (request, item) = self.state.item.clone()?;
        let mut record = Record::<K> {
            own: self.state.own.clone(),
            bringer: self.state.bringer.clone(),
            request,
            item,
            notes: self.store.notes(),
        };
        K::strip(K::item_mut(&mut record.request));
        K::strip(&mut record.item);
        Some(record)
    }

    /// For the elements of a role that notes what it takes back.
    pub(super) fn noting(&self) -> Option<Noting> {
        let notes = self.table.notes && self.state.kept;
        let journal = self.table.journal.clone().filter(|_| notes)?;
        let (id, store, record) = (self.id.clone(), Arc::clone(&self.store), self.record()?);
        Some(Noting(Arc::new(move || {
            let record = Record::<K> {
                own: record.own.clone(),
                bringer: record.bringer.clone(),
                request: record.request.clone(),
                item: record.item.clone(),
                notes: store.notes(),
            };
            journal.keep(&id, record.write());
            journal.written()
        })))
    }
}

/// Writes an item that is being closed down once more, without what was taken back of it.
#[derive(Clone)]
pub struct Noting(Arc<dyn Fn() -> Written + Send + Sync>);

impl std::fmt::Debug for Noting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Noting")
    }
}

impl Noting {
    /// Waits until a restart would find no more than that, where there is a journal.
    pub async fn note(call: &Call) {
        if let Some(Self(note)) = call.scratch.get() {
            note().settled().await;
        }
    }
}

impl<K: Kind> Table<K> {
    /// Takes up an item that the journal tells of.
    pub(super) async fn restore(
        self: &Arc<Self>,
        call: &mut Call,
        record: &Record<K>,
        next: &Next<K>,
    ) -> Result<(), Error> {
        let id = K::id(&record.item).to_owned();
        let store = Arc::new(Store::with_notes(record.notes.clone()));
        let (entry, turn) = self.entry(&id, self.limit, store)?;
        let Some(state) = turn else {
            let message = format!("{} {id} is in the journal twice", K::NAME);
            return Err(Error::new(Code::AlreadyExists, message));
        };
        let mut turn = self.turn(&id, &entry, state);
        turn.state.item = Some((record.request.clone(), record.item.clone()));
        turn.state.own.clone_from(&record.own);
        turn.state.bringer.clone_from(&record.bringer);
        turn.state.kept = true;
        call.store = Arc::clone(&turn.store);
        call.own.clone_from(&record.own);
        let factory = Factory {
            id,
            table: Arc::downgrade(self),
            next: next.downgrade(),
        };
        call.scratch.put(factory.clone());
        let restored = next.restore(call, record).await;
        turn.keep();
        drop(turn);
        if restored.is_err() {
            self.tasks.finish(async move {
                if let Err(error) = factory.close(Instant::now() + CLOSE_PATIENCE).await {
                    tracing::info!(?factory, %error, "closing what a restart did not find again");
                }
            });
        }
        restored
    }
}
