//! Closes that a next hop has not answered: sent again until it does.
//!
//! A hop that was away when a connection was closed, or whose answer to a request was lost, keeps
//! its part, since nothing tells it apart from one whose hop is away. So the close is owed, and
//! paid when that hop is back, unless the connection goes through it again.

mod debts;
mod ledger;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buffa::MessageField;
use nsm_model::spiffe::SpiffeId;
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep, timeout},
};

use debts::{Debt, Debts, Place};

use crate::{Backoff, Code, Error, Hop, Journal, Store, Tasks, Transport, downstream::Downstream};

pub(crate) use debts::Known;
pub use ledger::Ledger;

/// Waits between attempts: a hop that died is not back sooner, and what it kept is in nobody's way.
const AGAIN: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// When it is looked again whether a connection that was just moved is still being asked for.
const LATER: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// As long as a lease is suspended at the most: beyond it the hop has closed by itself.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The code is the Go implementation's; the hint says that this hop goes on by itself, so that a
/// caller of ours does not owe it too. The Go implementation's hops give none, and do not go on.
fn owed(failed: Error) -> Error {
    Error {
        retry_after: Some(AGAIN.0),
        ..failed
    }
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Owed {
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    journal: Option<Arc<dyn Journal>>,
    state: Arc<Mutex<Debts>>,
    /// Somebody has been paid.
    paid: Arc<Notify>,
}

/// A connection that is being asked for: nobody closes it anywhere.
pub(crate) struct Asking<'a>(&'a Owed, &'a str);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(asking) = state.asking.get_mut(self.1) {
            *asking -= 1;
            if *asking == 0 {
                state.asking.remove(self.1);
            }
        }
    }
}

/// What came of one attempt.
enum Attempt {
    /// Nothing is owed any more; what was answered.
    Done(Result<(), Error>),
    /// It is being asked for just now.
    Later,
    Away,
}

impl std::fmt::Debug for Owed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owed({})", self.state().owed.len())
    }
}

impl Owed {
    /// Nothing yet; what will be owed is paid over this transport, by these tasks.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, tasks: Tasks) -> Self {
        Self {
            transport,
            tasks,
            journal: None,
            state: Arc::default(),
            paid: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Debts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks for the connection: until it is granted, or nobody asks any more, a hop that
    /// still has it keeps it, since packets may flow there.
    pub(crate) fn wanted(&self, id: &str) {
        self.state().wanted(id);
    }

    /// From now on the connection goes where its store says.
    pub(crate) fn stands(&self, id: &str, store: &Arc<Store>) {
        let mut state = self.state();
        state.standing.insert(id.to_owned(), Arc::downgrade(store));
    }

    /// The connection goes nowhere any more.
    pub(crate) fn ended(&self, id: &str) {
        self.state().standing.remove(id);
    }

    /// The connection is asked for at this peer while the answer is held: a close that is on its
    /// way there arrives first.
    pub(crate) async fn asking<'a>(&'a self, id: &'a str, peer: &SpiffeId) -> Asking<'a> {
        *self.state().asking.entry(id.to_owned()).or_default() += 1;
        let asking = Asking(self, id);
        loop {
            let paid = self.paid.notified();
            let told = |(_, debt): (_, &Debt)| debt.told.as_ref() == Some(peer);
            if !self.state().of(id).any(told) {
                return asking;
            }
            // Whoever is told meanwhile has the time of one attempt.
            let _late = timeout(PATIENCE, paid).await;
        }
    }

    /// Closes by and by where a request failed so that the hop may have done what was asked.
    pub(crate) fn lost(&self, id: &str, asked: Downstream, failed: &Error) {
        if is_lost(failed) {
            self.later(id, asked, Known::Asked);
        }
    }

    /// Goes on closing where `failed` says that the hop was away, and tells the caller so.
    pub(crate) fn owe(&self, id: &str, left: Downstream, known: Known, failed: Error) -> Error {
        // One that is not registered any more is away as well: it keeps its part until it is back.
        let away = is_away(&failed) || failed.code == Code::NotFound;
        if !away || failed.retry_after.is_some() {
            return failed;
        }
        if !self.later(id, left, known) {
            return failed;
        }
        owed(failed)
    }

    /// Closes at a hop that the connection has left, unless it goes there again. A request that is
    /// on its way there must not be overtaken: that waits until nobody asks for the connection.
    pub(crate) async fn soon(&self, id: &str, left: Downstream) {
        let Some((place, left)) = self.insert(id, left, Known::Asked) else {
            return;
        };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.once(&place, &left).await {
                Attempt::Done(_) => {
                    self.settled(&place);
                    return;
                }
                Attempt::Later => sleep(LATER).await,
                Attempt::Away => break,
            }
        }
        self.pay_later(place, left);
    }

    /// Nothing is owed there any more.
    fn settled(&self, place: &Place) {
        if self.state().owed.remove(place).is_some() {
            self.strike(place);
        }
    }

    /// Whether it is owed now.
    fn later(&self, id: &str, left: Downstream, known: Known) -> bool {
        let place = (id.to_owned(), left.place());
        if let Some((place, left)) = self.insert(id, left, known) {
            self.pay_later(place, left);
        }
        self.state().owed.contains_key(&place)
    }

    /// Owes it, where that is new.
    fn insert(
        &self,
        id: &str,
        mut left: Downstream,
        known: Known,
    ) -> Option<(Place, Arc<Downstream>)> {
        // Whoever closes needs the path alone, and callers write as much as they like.
        left.connection.context = MessageField::none();
        left.connection.labels.clear();
        let (place, left) = self.state().insert(id, left, known)?;
        self.write(&place, &left, known);
        Some((place, left))
    }

    fn pay_later(&self, place: Place, left: Arc<Downstream>) {
        let owed = self.clone();
        self.tasks.spawn(async move {
            owed.pay(&place, &left).await;
            owed.settled(&place);
        });
    }

    /// Pays now what is owed of a connection that ends, other than at the hop that it goes through.
    /// What hops refuse, and which are still away, comes back; an endpoint has no link to tell of.
    pub(crate) async fn settle(
        &self,
        id: &str,
        now: Option<&Downstream>,
        deadline: Instant,
    ) -> Vec<Error> {
        let debts: Vec<_> = {
            let state = self.state();
            let debts = state.of(id);
            debts
                .map(|(place, debt)| (place.clone(), Arc::clone(&debt.left)))
                .collect()
        };
        let mut errors = Vec::new();
        for (place, left) in debts {
            if let Some(debt) = self.state().owed.get_mut(&place) {
                debt.wanted = None;
            }
            let deadline = deadline.min(Instant::now() + PATIENCE);
            let attempt = self.attempt(&place, &left, || now.cloned(), deadline);
            let attempt = attempt.await;
            self.tell(&place, None);
            self.paid.notify_waiters();
            if let Attempt::Done(answered) = attempt {
                self.settled(&place);
                errors.extend(answered.err());
                continue;
            }
            if left.is_endpoint() {
                continue;
            }
            let message = format!("{left} is away: it is closed there when it is back");
            errors.push(owed(Error::new(Code::Unavailable, message)));
        }
        errors
    }

    /// Until somebody answers, whatever it is.
    async fn pay(&self, place: &Place, left: &Downstream) {
        let began = Instant::now();
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        sleep(backoff.next_wait()).await;
        while began.elapsed() < LONGEST && self.state().owed.contains_key(place) {
            match self.once(place, left).await {
                Attempt::Done(_) => return,
                Attempt::Later => sleep(PATIENCE).await,
                Attempt::Away => sleep(backoff.next_wait()).await,
            }
        }
    }

    /// One attempt, by what the connection does now.
    async fn once(&self, place: &Place, left: &Downstream) -> Attempt {
        let standing = || {
            let store = self.state().standing.get(&place.0)?.upgrade()?;
            store.get::<Downstream>()
        };
        let deadline = Instant::now() + PATIENCE;
        let attempt = self.attempt(place, left, standing, deadline).await;
        self.tell(place, None);
        self.paid.notify_waiters();
        attempt
    }

    fn tell(&self, place: &Place, peer: Option<SpiffeId>) {
        if let Some(debt) = self.state().owed.get_mut(place) {
            debt.told = peer;
        }
    }

    /// Closes at the hop that was left, unless `now` goes through it.
    async fn attempt(
        &self,
        place: &Place,
        left: &Downstream,
        now: impl FnOnce() -> Option<Downstream> + Send,
        deadline: Instant,
    ) -> Attempt {
        let Ok(hop) = left.reach(self.transport.as_ref(), deadline).await else {
            return Attempt::Away;
        };
        let id = &place.0;
        {
            let mut state = self.state();
            if state.asking.contains_key(id) || state.is_wanted(place) {
                return Attempt::Later;
            }
            if let Some(debt) = state.owed.get_mut(place) {
                debt.told = Some(hop.peer().clone());
            }
        }
        match self.goes_through(now(), left, hop.as_ref(), deadline).await {
            Some(false) => {}
            Some(true) => return Attempt::Done(Ok(())),
            None => return Attempt::Away,
        }
        let answered = hop.close(left.connection.clone(), deadline).await;
        // One that goes on by itself has done its part.
        if answered
            .as_ref()
            .is_err_and(|error| is_away(error) && error.retry_after.is_none())
        {
            return Attempt::Away;
        }
        let hop = left.hop();
        tracing::info!(id, hop, ?answered, "closed at a hop that was away");
        Attempt::Done(answered)
    }

    /// Whether the connection goes through the hop that it left; `None` where that cannot be told.
    async fn goes_through(
        &self,
        now: Option<Downstream>,
        left: &Downstream,
        hop: &dyn Hop,
        deadline: Instant,
    ) -> Option<bool> {
        let Some(now) = now else { return Some(false) };
        if let (Some(now), Some(left)) = (now.hop(), left.hop()) {
            return Some(now == left);
        }
        let there = now.reach(self.transport.as_ref(), deadline).await.ok()?;
        Some(there.peer() == hop.peer())
    }
}

/// Whether nobody knows how far what was said has come.
fn is_lost(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    )
}

/// Who has no valid identity for the moment, here or further on, is as good as away.
fn is_away(error: &Error) -> bool {
    is_lost(error) || error.code == Code::Unauthenticated
}
