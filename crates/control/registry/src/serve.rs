//! The registry's two gRPC services.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use nsm_api::registry::{
    NetworkService, NetworkServiceEndpointQuery, NetworkServiceEndpointResponse,
    NetworkServiceQuery, NetworkServiceResponse,
};
use nsm_chain::{Call, Endpoints, Error, Services};
use nsm_rpc::{
    Answers, Find, Server,
    seen::{Marked, NOTHING, Seen},
};
use tokio::time::{Duration, Instant, timeout_at};

use crate::{Marks, Record, Registry, chain, chain::Parts, watch::Subscription};

/// How often a copy is told how far it is at most: what changed in that time it is told again when
/// it comes back.
const MARK_EVERY: Duration = Duration::from_millis(500);

/// Answers Find from the index.
#[derive(Debug, Clone)]
pub struct Finder(pub Registry);

/// Adds both services of a registry to a server.
#[must_use]
pub fn serve(server: Server, parts: &Parts) -> Server {
    let finder = Finder(parts.registry.clone());
    server
        .services(chain::services(parts), finder.clone())
        .endpoints(chain::endpoints(parts), finder)
}

impl Finder {
    /// What matches now; with `watch`, then every change for as long as the stream is read. A copy
    /// that says what it has seen gets marks, and no more than what changed since.
    fn answers<R: Record, T: Send + 'static>(
        &self,
        call: &Call,
        query: R::Item,
        watch: bool,
        answer: fn(R::Item, bool) -> T,
    ) -> Result<Answers<T>, Error> {
        if !watch {
            let found = self.0.find::<R>(&query);
            return Ok(stream::iter(found)
                .map(move |item| Ok(answer((*item).clone(), false)))
                .boxed());
        }
        // A part of everything has no marks: who comes back gets it whole.
        let seen = call.scratch.take::<Seen>();
        let Some(Seen(seen)) = seen.filter(|_| query == R::Item::default()) else {
            return Ok(events(self.0.watch::<R>(query)?, answer));
        };
        call.scratch.put(Marked);
        let watch = if seen == NOTHING {
            self.0.watch::<R>(query)?
        } else {
            self.0.resume::<R>(&seen)?
        };
        Ok(marked(self.0.marks(), watch, answer))
    }
}

fn events<R: Record, T: Send + 'static>(
    watch: Subscription<R>,
    answer: fn(R::Item, bool) -> T,
) -> Answers<T> {
    let events = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => Some((Ok(event), Some(watch))),
            Err(error) => Some((Err(error), None)),
        }
    });
    events
        .map(move |event| event.map(|event| answer((*event.item).clone(), event.deleted)))
        .boxed()
}

/// The events, with a mark after the first ones, and others as they are due.
struct Marking<R: Record> {
    marks: Marks,
    watch: Subscription<R>,
    /// How far the events told are, where no mark said so.
    unmarked: Option<u64>,
    /// Whether the first events are all told.
    begun: bool,
    marked: Instant,
}

fn marked<R: Record, T: Send + 'static>(
    marks: Marks,
    watch: Subscription<R>,
    answer: fn(R::Item, bool) -> T,
) -> Answers<T> {
    let marking = Marking {
        marks,
        unmarked: None,
        begun: false,
        marked: Instant::now(),
        watch,
    };
    let told = stream::unfold(Some(marking), async |marking| {
        let mut marking = marking?;
        match marking.next().await {
            Ok(told) => Some((Ok(told), Some(marking))),
            Err(error) => Some((Err(error), None)),
        }
    });
    told.map(move |told| told.map(|(item, deleted)| answer(item, deleted)))
        .boxed()
}

impl<R: Record> Marking<R> {
    async fn next(&mut self) -> Result<(R::Item, bool), Error> {
        if !self.begun && !self.watch.is_first() {
            self.begun = true;
            return Ok(self.mark(self.watch.at()));
        }
        let due = self.marked + MARK_EVERY;
        let event = match self.unmarked {
            Some(revision) if Instant::now() >= due => return Ok(self.mark(revision)),
            Some(revision) => match timeout_at(due, self.watch.next()).await {
                Ok(event) => event?,
                Err(_) => return Ok(self.mark(revision)),
            },
            None => self.watch.next().await?,
        };
        if self.begun {
            self.unmarked = Some(event.revision);
        }
        Ok(((*event.item).clone(), event.deleted))
    }

    fn mark(&mut self, revision: u64) -> (R::Item, bool) {
        self.unmarked = None;
        self.marked = Instant::now();
        (R::mark(self.marks.at(revision)), false)
    }
}

#[async_trait]
impl Find<Services> for Finder {
    async fn find(
        &self,
        call: Call,
        query: NetworkServiceQuery,
    ) -> Result<Answers<NetworkServiceResponse>, Error> {
        let wanted: NetworkService = query.network_service.into_option().unwrap_or_default();
        self.answers::<Services, _>(&call, wanted, query.watch, |service, deleted| {
            NetworkServiceResponse {
                network_service: buffa::MessageField::some(service),
                deleted,
                ..Default::default()
            }
        })
    }
}

#[async_trait]
impl Find<Endpoints> for Finder {
    async fn find(
        &self,
        call: Call,
        query: NetworkServiceEndpointQuery,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        let wanted = query
            .network_service_endpoint
            .into_option()
            .unwrap_or_default();
        self.answers::<Endpoints, _>(&call, wanted, query.watch, |endpoint, deleted| {
            NetworkServiceEndpointResponse {
                network_service_endpoint: buffa::MessageField::some(endpoint),
                deleted,
                ..Default::default()
            }
        })
    }
}
