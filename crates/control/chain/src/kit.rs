//! The conformance kit: what every element must do, checked the same way for all.
//!
//! An element passes the request on with its call, answers with what came back, changes nothing
//! that it does not own, returns the error of what comes after it unchanged, closes what it cannot
//! use, goes all the way on Close, and survives being dropped at any await.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
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

/// How many awaits an element and what it needs before it may have: more is a loop.
const MAX_AWAITS: usize = 200;

async fn survives_cancel<K: Kind>(
    list: &impl Fn(Probe) -> Chain<K>,
    call: &impl Fn() -> Call,
    request: &K::Request,
) -> Result<(), String> {
    for polls in 0..MAX_AWAITS {
        let chain = list(Probe::default());
        let mut dropped = call();
        let finished = give_up_after(polls, chain.request(&mut dropped, request.clone())).await;
        let item = chain
            .request(&mut patient(call()), request.clone())
            .await
            .map_err(|error| format!("after a caller gave up at await {polls}: {error}"))?;
        let mut dropped = call();
        let closed = give_up_after(polls, chain.close(&mut dropped, item.clone())).await;
        chain
            .close(&mut patient(call()), item)
            .await
            .map_err(|error| format!("after a closer gave up at await {polls}: {error}"))?;
        if finished && closed {
            return Ok(());
        }
    }
    Err(format!("still not finished after {MAX_AWAITS} awaits"))
}

fn patient(mut call: Call) -> Call {
    call.deadline = Instant::now() + PATIENCE;
    call
}

/// Polls a future this many times, then drops it: whether it had finished.
async fn give_up_after(polls: usize, future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            std::task::Poll::Ready(_) => std::task::Poll::Ready(true),
            std::task::Poll::Pending => {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        }
    })
    .await
}

/// What an element passed on, and with which call.
struct Seen<K: Kind> {
    request: K::Request,
    deadline: Instant,
    caller: Option<String>,
    token: Option<crate::Token>,
}

/// The last element of a list under test: keeps what arrives.
struct Witness<K: Kind>(Arc<Mutex<Option<Seen<K>>>>);

#[async_trait]
impl<K: Kind> Element<K> for Witness<K> {
    fn name(&self) -> &'static str {
        "witness"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        let seen = Seen {
            request: request.clone(),
            deadline: call.deadline,
            caller: call.caller.as_ref().map(|caller| caller.id.to_string()),
            token: call.token.clone(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        next.request(call, request).await
    }
}

/// Checks that an element changes nothing that it does not own: `own` blanks what is the
/// element's, in the message that is sent, the one that arrives, and both answers. `list` builds a
/// list that ends with the element it is given; `request` should have every field set.
///
/// # Errors
/// Says what was changed.
pub async fn keeps<K: Kind>(
    list: impl Fn(Box<dyn Element<K>>) -> Chain<K>,
    call: impl Fn() -> Call,
    request: K::Request,
    own: impl Fn(&mut K::Request),
) -> Result<(), String>
where
    K::Request: PartialEq,
{
    let seen = Arc::default();
    let chain = list(Box::new(Witness(Arc::clone(&seen))));
    let mut sent = call();
    let (deadline, caller) = (sent.deadline, sent.caller.clone());
    let token = sent.token.clone();
    let answer = chain
        .request(&mut sent, request.clone())
        .await
        .map_err(|error| format!("a valid request failed: {error}"))?;
    let seen: Option<Seen<K>> = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let seen = seen.ok_or("the request did not arrive")?;
    let blank = |mut request: K::Request| {
        own(&mut request);
        request
    };
    same(
        "what arrives",
        &blank(request.clone()),
        &blank(seen.request.clone()),
    )?;
    let back = K::renew(&request, &answer);
    same("the answer", &blank(request), &blank(back))?;
    if seen.deadline != deadline {
        return Err("the caller's deadline was changed".to_owned());
    }
    if seen.caller != caller.map(|caller| caller.id.to_string()) || seen.token != token {
        return Err("who calls was changed".to_owned());
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, sent: &T, got: &T) -> Result<(), String> {
    if sent == got {
        return Ok(());
    }
    Err(format!(
        "{what} differs in what is not the element's:\n sent {sent:?}\n got  {got:?}"
    ))
}

/// Checks that an element which fails after what comes after it has succeeded closes that again.
/// `list` builds a list in which the element under test will fail so.
///
/// # Errors
/// Says what was left open.
pub async fn closes_on_error<K: Kind>(
    list: impl Fn(Probe) -> Chain<K>,
    call: impl Fn() -> Call,
    request: K::Request,
) -> Result<(), String> {
    let probe = Probe::default();
    match list(probe.clone()).request(&mut call(), request).await {
        Err(_) if probe.requests() == 0 => Err("it failed before it went on".to_owned()),
        Err(_) if probe.requests() == probe.closes() => Ok(()),
        Err(error) => Err(format!(
            "failed with {error:?}; {} requests went on and {} closes",
            probe.requests(),
            probe.closes()
        )),
        Ok(_) => Err("it did not fail".to_owned()),
    }
}
