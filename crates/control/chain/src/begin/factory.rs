//! The way back to an item between two calls.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{Table, Turn};
use crate::{Call, Code, Error, Kind, Next, chain::WeakNext};

/// A way back to an item between two calls: its lease ends, its far end goes down.
///
/// It keeps neither the item nor the role alive.
pub struct Factory<K: Kind> {
    pub(super) id: String,
    pub(super) table: Weak<Table<K>>,
    pub(super) next: WeakNext<K>,
}

impl<K: Kind> Clone for Factory<K> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            table: Weak::clone(&self.table),
            next: self.next.clone(),
        }
    }
}

impl<K: Kind> std::fmt::Debug for Factory<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Factory({} {})", K::NAME, self.id)
    }
}

impl<K: Kind> Factory<K> {
    /// The factory of the call in hand, put there by `begin`.
    ///
    /// # Errors
    /// A list without `begin` before the element that asks.
    pub fn of(call: &Call) -> Result<Self, Error> {
        call.scratch.get::<Self>().ok_or_else(|| {
            Error::new(
                Code::Internal,
                "this role's list has no `begin` before the element that needs it",
            )
        })
    }

    /// Closes the item from here on down the list, unless it is gone.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close(&self, deadline: Instant) -> Result<(), Error> {
        self.close_if(deadline, || true).await
    }

    /// As [`Factory::close`], if that is still `wanted` when the item's turn has come: what was
    /// done meanwhile may have changed it.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close_if(
        &self,
        deadline: Instant,
        wanted: impl FnOnce() -> bool + Send,
    ) -> Result<(), Error> {
        let Some((mut turn, next)) = self.enter(deadline).await? else {
            return Ok(());
        };
        let Some((_, item)) = turn.state.item.clone().filter(|_| wanted()) else {
            return Ok(());
        };
        let mut call = turn.call(deadline);
        turn.close(&mut call, item, &next).await
    }

    /// Waits until nobody works on the item, or it is gone.
    ///
    /// # Errors
    /// Somebody still does at the deadline.
    pub async fn settled(&self, deadline: Instant) -> Result<(), Error> {
        self.enter(deadline).await.map(drop)
    }

    /// Does some work while nobody else works on the item: `None` when it is gone.
    ///
    /// # Errors
    /// Somebody still does at the deadline.
    pub async fn during<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = T> + Send,
    ) -> Result<Option<T>, Error> {
        let turn = self.enter(deadline).await?;
        Ok(if turn.is_some() {
            Some(work.await)
        } else {
            None
        })
    }

    /// Asks for the item again from here on down the list, after `change` has changed the request:
    /// `None` when it is gone.
    ///
    /// # Errors
    /// The first cause; the item stays as it was.
    pub async fn again(
        &self,
        deadline: Instant,
        change: impl FnOnce(&mut K::Request) + Send,
    ) -> Result<Option<K::Item>, Error> {
        let Some((mut turn, next)) = self.enter(deadline).await? else {
            return Ok(None);
        };
        let Some((request, item)) = &turn.state.item else {
            return Ok(None);
        };
        let mut request = K::renew(request, item);
        change(&mut request);
        let mut call = turn.call(deadline);
        turn.request(&mut call, request, &next).await.map(Some)
    }

    /// The item's turn and what comes after `begin`, unless it is gone.
    async fn enter(&self, deadline: Instant) -> Result<Option<(Turn<K>, Next<K>)>, Error> {
        let role = self.table.upgrade().zip(self.next.upgrade());
        let Some((table, next)) = role else {
            return Ok(None);
        };
        let turn = table.enter_known(&self.id, deadline).await?;
        Ok(turn.map(|turn| (turn, next)))
    }
}

impl<K: Kind> Turn<K> {
    /// A call of our own about the item.
    fn call(&self, deadline: Instant) -> Call {
        let mut call = Call::local(deadline);
        call.store = Arc::clone(&self.store);
        call.own.clone_from(&self.state.own);
        call
    }
}
