//! `memory`: the record goes into the registry, or out of it.
//!
//! *What it does*: sdk `pkg/registry/common/memory`, over the store and the index.
//! *Where it stands*: last.
//! *On Close*: the record ends if it belongs to whoever calls, or an operator does. A close without
//! a caller is the one of a timer: it ends what is due, and leaves what was renewed meanwhile.

use async_trait::async_trait;
use nsm_chain::{Call, Element, Error, Kind, Next};

use super::{Asker, Hops};
use crate::{Record, Registry};

/// See the module.
#[derive(Debug)]
pub struct Memory(Registry);

impl Memory {
    /// The element.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(registry)
    }
}

#[async_trait]
impl<R: Record<Request = <R as Kind>::Item>> Element<R> for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn request(
        &self,
        call: &mut Call,
        record: R::Item,
        next: Next<R>,
    ) -> Result<R::Item, Error> {
        let stored = self.0.register::<R>(record).await?;
        next.request(call, stored).await
    }

    async fn close(
        &self,
        call: &mut Call,
        mut record: R::Item,
        next: Next<R>,
    ) -> Result<(), Error> {
        let ended = match call.scratch.get::<Hops>() {
            Some(_) if call.scratch.get() == Some(Asker { operator: true }) => {
                self.0.unregister_any::<R>(R::id(&record)).await
            }
            Some(Hops(hops)) => {
                *R::path_ids_mut(&mut record) = hops;
                self.0.unregister::<R>(&record).await
            }
            None => self.0.unregister_ended::<R>(R::id(&record)).await,
        };
        let answer = next.close(call, record).await;
        Error::join(ended.err().into_iter().chain(answer.err()).collect()).map_or(Ok(()), Err)
    }
}
