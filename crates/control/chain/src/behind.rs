//! Hops that a connection has left: closed a moment later, or with the connection.

use std::sync::Arc;

use tokio::sync::Mutex as AsyncMutex;

use crate::{Store, downstream::Downstream};

/// One of them, until it is closed; whoever closes it holds it meanwhile.
pub(crate) type Left = Arc<AsyncMutex<Option<Downstream>>>;

/// Those of one connection, in its store.
#[derive(Default)]
pub(crate) struct Behind(Vec<Left>);

impl Behind {
    /// The connection has left this hop.
    pub(crate) fn leave(store: &Store, left: Downstream) -> Left {
        let Self(mut all) = store.take::<Self>().unwrap_or_default();
        all.retain(|one| one.try_lock().map_or(true, |one| one.is_some()));
        let left = Arc::new(AsyncMutex::new(Some(left)));
        all.push(Arc::clone(&left));
        store.put(Self(all));
        left
    }

    /// All that are not closed yet: the connection ends.
    pub(crate) fn take(store: &Store) -> Vec<Left> {
        let Self(all) = store.take::<Self>().unwrap_or_default();
        all
    }
}
