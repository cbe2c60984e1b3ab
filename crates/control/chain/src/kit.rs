//! The conformance kit: what every element must do, checked the same way for all.
//!
//! An element passes the request on, answers with what came back, returns the error of what comes
//! after it unchanged, goes all the way on Close, and survives being dropped at any await.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{Call, Chain, Code, Element, Error, Kind, Next};

/// The last element of a list under test: counts what arrives and fails when told to.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    requests: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
    fails: Option<Error>,
}

impl Probe {
    /// A probe whose answers are this error.
    #[must_use]
    pub fn failing(error: Error) -> Self {
        Self {
            fails: Some(error),
            ..Self::default()
        }
    }

    /// How many requests arrived.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many closes arrived.
    #[must_use]
    pub fn closes(&self) -> usize {
        self.closes.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl<K: Kind> Element<K> for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => next.request(call, request).await,
        }
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        self.closes.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => next.close(call, item).await,
        }
    }
}

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks one element. `list` builds a fresh list that ends with the probe it is given (elements
/// that the one under test needs before it go first); `call` and `request` make a valid call.
///
/// # Errors
/// Says which of the kit's rules does not hold.
pub async fn conform<K: Kind>(
    list: impl Fn(Probe) -> Chain<K>,
    call: impl Fn() -> Call,
    request: K::Request,
) -> Result<(), String> {
    passes_on(&list, &call, &request).await?;
    returns_errors(&list, &call, &request).await?;
    survives_cancel(&list, &call, &request).await
}

async fn passes_on<K: Kind>(
    list: &impl Fn(Probe) -> Chain<K>,
    call: &impl Fn() -> Call,
    request: &K::Request,
) -> Result<(), String> {
    let probe = Probe::default();
    let chain = list(probe.clone());
    let item = chain
        .request(&mut call(), request.clone())
        .await
        .map_err(|error| format!("a valid request failed: {error}"))?;
    if probe.requests() != 1 {
        return Err(format!(
            "a request arrived {} times at what comes after",
            probe.requests()
        ));
    }
    chain
        .close(&mut call(), item)
        .await
        .map_err(|error| format!("a valid close failed: {error}"))?;
    if probe.closes() != 1 {
        return Err(format!(
            "a close arrived {} times at what comes after",
            probe.closes()
        ));
    }
    Ok(())
}

async fn returns_errors<K: Kind>(
    list: &impl Fn(Probe) -> Chain<K>,
    call: &impl Fn() -> Call,
    request: &K::Request,
) -> Result<(), String> {
    let cause = Error::new(Code::FailedPrecondition, "the first cause");
    let probe = Probe::failing(cause.clone());
    let chain = list(probe.clone());
    match chain.request(&mut call(), request.clone()).await {
        Err(error) if error == cause => {}
        other => return Err(format!("the cause came back as {other:?}")),
    }
    let mut request = request.clone();
    let item = K::item_mut(&mut request).clone();
    match chain.close(&mut call(), item).await {
        Err(error) if error.message.contains(&cause.message) => {}
        other => return Err(format!("a failed close came back as {other:?}")),
    }
    if probe.closes() == 0 {
        return Err("the close did not go all the way".to_owned());
    }
    Ok(())
}

async fn survives_cancel<K: Kind>(
    list: &impl Fn(Probe) -> Chain<K>,
    call: &impl Fn() -> Call,
    request: &K::Request,
) -> Result<(), String> {
    for polls in 0..8 {
        let chain = list(Probe::default());
        let mut dropped = call();
        give_up_after(polls, chain.request(&mut dropped, request.clone())).await;
        let mut again = call();
        again.deadline = Instant::now() + PATIENCE;
        chain
            .request(&mut again, request.clone())
            .await
            .map_err(|error| format!("after a caller gave up at await {polls}: {error}"))?;
    }
    Ok(())
}

/// Polls a future this many times, then drops it.
async fn give_up_after(polls: usize, future: impl Future) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        future.as_mut().poll(context).map(|_| ())
    })
    .await;
}
