//! Elements, and the list of them that is a role.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{Call, Error, Kind, Record};

/// One step of a role. It holds no state of its own of a connection: that is in `call.store`.
///
/// It may change the request on the way down and the answer on the way up. `close` always goes on
/// to `next`, whatever fails here, and reports every failure.
#[async_trait]
pub trait Element<K: Kind>: Send + Sync {
    /// The element's name, upstream's where upstream has it.
    fn name(&self) -> &'static str;

    /// Handles a request, new or refreshed.
    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error>;

    /// Lets an item go.
    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        next.close(call, item).await
    }

    /// Takes an item up again that a journal tells of, after a restart and before the role serves:
    /// what was remembered of it is in `call.store` ([`Store::kept`](crate::Store::kept)). What it
    /// would have to ask others for, it does in the background.
    ///
    /// An error says that the item is gone for good; it is closed then.
    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<K>,
        next: Next<K>,
    ) -> Result<(), Error> {
        next.restore(call, record).await
    }
}

/// A role: its elements in request order.
pub struct Chain<K: Kind>(Arc<[Box<dyn Element<K>>]>);

impl<K: Kind> Clone for Chain<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Kind> std::fmt::Debug for Chain<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<K: Kind> Chain<K> {
    /// A role from its list.
    #[must_use]
    pub fn new(elements: Vec<Box<dyn Element<K>>>) -> Self {
        Self(elements.into())
    }

    /// The names of the elements, in request order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|element| element.name()).collect()
    }

    fn first(&self) -> Next<K> {
        Next {
            elements: Arc::clone(&self.0),
            at: 0,
        }
    }

    /// Sends a request down the list.
    ///
    /// # Errors
    /// The first cause, from whichever element failed.
    pub async fn request(&self, call: &mut Call, request: K::Request) -> Result<K::Item, Error> {
        self.first().request(call, request).await
    }

    /// Sends a close down the list.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close(&self, call: &mut Call, item: K::Item) -> Result<(), Error> {
        self.first().close(call, item).await
    }

    /// Takes up an item that a journal tells of.
    ///
    /// # Errors
    /// It is gone for good.
    pub async fn restore(&self, record: &Record<K>) -> Result<(), Error> {
        let mut call = Call::local(Instant::now() + RESTORE);
        self.first().restore(&mut call, record).await
    }
}

/// How long taking up one item may take: it is local work.
const RESTORE: Duration = Duration::from_secs(10);

/// The rest of the list. It can be kept: what happens to a connection between two calls (its
/// lease ends, its far end goes down) enters the list in the middle.
pub struct Next<K: Kind> {
    elements: Arc<[Box<dyn Element<K>>]>,
    at: usize,
}

impl<K: Kind> std::fmt::Debug for Next<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Next({} elements)", self.elements.len() - self.at)
    }
}

impl<K: Kind> Clone for Next<K> {
    fn clone(&self) -> Self {
        Self {
            elements: Arc::clone(&self.elements),
            at: self.at,
        }
    }
}

/// The rest of a list for whoever is kept by an element of it: each would keep the other for ever.
pub(crate) struct WeakNext<K: Kind> {
    elements: Weak<[Box<dyn Element<K>>]>,
    at: usize,
}

impl<K: Kind> Clone for WeakNext<K> {
    fn clone(&self) -> Self {
        Self {
            elements: Weak::clone(&self.elements),
            at: self.at,
        }
    }
}

impl<K: Kind> WeakNext<K> {
    /// `None` when the role is gone.
    pub(crate) fn upgrade(&self) -> Option<Next<K>> {
        let elements = self.elements.upgrade()?;
        Some(Next {
            elements,
            at: self.at,
        })
    }
}

impl<K: Kind> Next<K> {
    pub(crate) fn downgrade(&self) -> WeakNext<K> {
        WeakNext {
            elements: Arc::downgrade(&self.elements),
            at: self.at,
        }
    }

    fn step(&self) -> Option<(&dyn Element<K>, Self)> {
        let element = self.elements.get(self.at)?;
        let rest = Self {
            elements: Arc::clone(&self.elements),
            at: self.at + 1,
        };
        Some((element.as_ref(), rest))
    }

    /// Goes on with a request; at the end of the list the item as it is is the answer.
    ///
    /// # Errors
    /// The first cause, from whichever element failed.
    pub async fn request(
        &self,
        call: &mut Call,
        mut request: K::Request,
    ) -> Result<K::Item, Error> {
        match self.step() {
            Some((element, rest)) => element.request(call, request, rest).await,
            None => Ok(K::item_mut(&mut request).clone()),
        }
    }

    /// Goes on with a close.
    ///
    /// # Errors
    /// Every failure on the way, joined.
    pub async fn close(&self, call: &mut Call, item: K::Item) -> Result<(), Error> {
        match self.step() {
            Some((element, rest)) => element.close(call, item, rest).await,
            None => Ok(()),
        }
    }

    /// Goes on with taking an item up again.
    ///
    /// # Errors
    /// It is gone for good.
    pub async fn restore(&self, call: &mut Call, record: &Record<K>) -> Result<(), Error> {
        match self.step() {
            Some((element, rest)) => element.restore(call, record, rest).await,
            None => Ok(()),
        }
    }
}
