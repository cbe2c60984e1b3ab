//! Who may begin new items, and how many: what stands is refreshed whatever happens here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nsm_model::spiffe::SpiffeId;
use tokio::time::{Duration, Instant};

use crate::Error;

/// The most new items of one role that are being made: each takes a turn of the kernel's workers
/// and a call further on, and what waits longer than its caller does is work for nothing.
const MAX_BEGINNING: usize = 1_024;
/// Callers that are remembered beside those that have items: beyond it those whose rate has
/// recovered are forgotten.
const MAX_REMEMBERED: usize = 4_096;
/// How often those are forgotten in any case: workloads come and go under names of their own.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// How long a caller waits whose limit is no rate.
const FULL: Duration = Duration::from_secs(1);

/// What one caller may have.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Items that stand.
    items: usize,
    /// New ones a second.
    rate: u32,
    /// New ones at once.
    burst: u32,
}

/// A workload: ten times what anybody was seen to ask for.
const WORKLOAD: Limits = Limits {
    items: 1_024,
    rate: 500,
    burst: 1_000,
};
/// A hop speaks for a whole node, or for everybody who registers through it.
const HOP: Limits = Limits {
    items: super::MAX_ITEMS,
    rate: 5_000,
    burst: 10_000,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    callers: BTreeMap<SpiffeId, Seen>,
    beginning: usize,
    /// When callers were forgotten last.
    forgot: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    items: usize,
    /// New items that may begin at once, as of `at`; in thousandths.
    left: u64,
    at: Instant,
    limits: Limits,
}

/// The place of a standing item among its caller's.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    who: SpiffeId,
}

/// The place of an item among those that are being made.
#[derive(Debug)]
pub(super) struct Beginning(Arc<Gate>);

impl Seen {
    fn new(limits: Limits, now: Instant) -> Self {
        Self {
            items: 0,
            left: u64::from(limits.burst) * 1_000,
            at: now,
            limits,
        }
    }

    fn recover(&mut self, now: Instant) {
        let since = u64::try_from((now - self.at).as_millis()).unwrap_or(u64::MAX);
        let back = since.saturating_mul(u64::from(self.limits.rate));
        self.left = (self.left.saturating_add(back)).min(u64::from(self.limits.burst) * 1_000);
        self.at = now;
    }

    fn admit(&mut self, who: &SpiffeId, what: &str) -> Result<(), Error> {
        let Limits { items, rate, .. } = self.limits;
        if self.items >= items {
            let message = format!("{who} has {items} {what}s here, and no more are taken");
            return Err(Error::busy(message, FULL));
        }
        if self.left < 1_000 {
            let message = format!("{who} begins more than {rate} {what}s a second");
            return Err(Error::busy(
                message,
                Duration::from_secs(1) / rate.max(1) * 50,
            ));
        }
        self.left -= 1_000;
        self.items += 1;
        Ok(())
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a new item of this caller in, of which `what` is the word.
    ///
    /// # Errors
    /// `ResourceExhausted`, with how long to wait.
    pub(super) fn admit(
        self: &Arc<Self>,
        who: &SpiffeId,
        hop: bool,
        what: &str,
    ) -> Result<(Place, Beginning), Error> {
        let now = Instant::now();
        let mut state = self.state();
        if state.beginning >= MAX_BEGINNING {
            let message = format!("{MAX_BEGINNING} new {what}s are being made here already");
            return Err(Error::busy(message, FULL));
        }
        let forgot = *state.forgot.get_or_insert(now);
        if state.callers.len() >= MAX_REMEMBERED || now - forgot >= FORGET_EVERY {
            state.forgot = Some(now);
            state.callers.retain(|_, seen| {
                seen.recover(now);
                seen.items > 0 || seen.left < u64::from(seen.limits.burst) * 1_000
            });
        }
        let limits = if hop { HOP } else { WORKLOAD };
        let seen = state
            .callers
            .entry(who.clone())
            .or_insert_with(|| Seen::new(limits, now));
        seen.limits = limits;
        seen.recover(now);
        seen.admit(who, what)?;
        state.beginning += 1;
        let place = Place {
            gate: Arc::clone(self),
            who: who.clone(),
        };
        Ok((place, Beginning(Arc::clone(self))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(seen) = self.gate.state().callers.get_mut(&self.who) {
            seen.items = seen.items.saturating_sub(1);
        }
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.beginning = state.beginning.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> SpiffeId {
        format!("spiffe://nsm.test/{name}").parse().unwrap()
    }

    /// How many of so many are let in; what is let in stands.
    fn let_in(gate: &Arc<Gate>, name: &str, hop: bool, many: usize) -> Vec<Place> {
        let admitted = (0..many).map_while(|_| gate.admit(&who(name), hop, "connection").ok());
        admitted.map(|(place, _)| place).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_one_caller_leaves_room_for_others() {
        let gate = Arc::new(Gate::default());
        let first = let_in(&gate, "flood", false, 5_000);
        assert_eq!(first.len(), 1_000, "as many as may begin at once");
        assert_eq!(let_in(&gate, "other", false, 10).len(), 10);
        assert_eq!(let_in(&gate, "hop", true, 5_000).len(), 5_000);
        let refused = gate.admit(&who("flood"), false, "connection").unwrap_err();
        assert_eq!(refused.code, crate::Code::ResourceExhausted);
        assert!(refused.retry_after.is_some(), "{refused}");
        drop(first);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(
            let_in(&gate, "flood", false, 5_000).len(),
            50,
            "500 a second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_is_counted_until_it_is_gone() {
        let gate = Arc::new(Gate::default());
        let mut held = let_in(&gate, "client", false, 1_000);
        tokio::time::sleep(Duration::from_secs(10)).await;
        held.extend(let_in(&gate, "client", false, 1_000));
        assert_eq!(held.len(), 1_024);
        held.truncate(1_000);
        assert_eq!(let_in(&gate, "client", false, 100).len(), 24);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_made_is_limited_over_all_callers() {
        let gate = Arc::new(Gate::default());
        let making: Vec<_> = (0..2_000)
            .map_while(|n| gate.admit(&who(&format!("c{n}")), false, "connection").ok())
            .collect();
        assert_eq!(making.len(), MAX_BEGINNING);
        drop(making);
        assert!(gate.admit(&who("late"), false, "connection").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_have_nothing_are_forgotten() {
        let gate = Arc::new(Gate::default());
        for n in 0..3 * MAX_REMEMBERED {
            drop(
                gate.admit(&who(&format!("c{n}")), false, "connection")
                    .unwrap(),
            );
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(gate.state().callers.len() <= MAX_REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_callers_that_are_gone_are_forgotten_soon() {
        let gate = Arc::new(Gate::default());
        let stays = let_in(&gate, "stays", false, 1);
        for n in 0..300 {
            drop(let_in(&gate, &format!("c{n}"), false, 1));
            tokio::time::advance(Duration::from_secs(1)).await;
            let known = gate.state().callers.len();
            assert!(known <= 33, "{known} after {n} s");
        }
        assert!(
            gate.state().callers.contains_key(&who("stays")),
            "{stays:?}"
        );
    }
}
