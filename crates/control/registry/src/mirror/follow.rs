//! Follows one kind: what there is, then every change, again and again.
//!
//! A registry of ours marks how far its answers are, so that a copy that comes back gets only what
//! changed meanwhile, at whichever registry of the same store. Of any other registry it lists
//! everything each time. Copies that must list everything again do so at different times.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nsm_chain::{Backoff, Code, Error, Tasks};
use nsm_rpc::{Answers, seen::NOTHING};
use tokio::time::{Instant, timeout_at};

use super::{Side, Source, Sourced};
use crate::{record::Record, registry::MAX_RECORDS};

/// The first and the longest wait before a lost registry is asked again: one that restarts is back
/// within the first few, and thousands of mirrors leave one that struggles alone.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long connecting, opening a watch and listing may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A round that lasted this long worked: the next wait is the first one again. A registry that
/// takes the watch and drops it at once is asked ever more rarely.
const WORKED: Duration = Duration::from_secs(5);

/// Within this time the copies of a mesh list everything again that must: 1,000 of 10,000 endpoints
/// are 5 GB. Each has an old copy meanwhile, and asks the registry itself for what that lacks.
const SPREAD: Duration = Duration::from_secs(2);

pub(super) fn start<R: Sourced>(source: &Arc<dyn Source>, side: &Arc<Side<R>>, tasks: &Tasks) {
    let (source, side) = (Arc::clone(source), Arc::clone(side));
    tasks.spawn(async move {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut spread = Backoff::new(SPREAD, SPREAD);
        let mut seen = None;
        loop {
            let started = Instant::now();
            let error = round(&*source, &side, &mut seen).await;
            let had_copy = side.synced.send_replace(false);
            if started.elapsed() > WORKED {
                backoff.reset();
            }
            let mut wait = backoff.next_wait();
            let forgotten = seen.is_some() && error.code == Code::FailedPrecondition;
            if forgotten {
                seen = None;
            }
            if seen.is_none() && (had_copy || forgotten) {
                // A wait has half of the longest at least: the other half is the random part.
                wait += (spread.next_wait() - SPREAD / 2) * 2;
            }
            tracing::warn!(kind = R::NAME, %error, ?wait, "the registry is lost; its last records are kept");
            tokio::time::sleep(wait).await;
        }
    });
}

async fn round<R: Sourced>(
    source: &dyn Source,
    side: &Side<R>,
    seen: &mut Option<String>,
) -> Error {
    let deadline = Instant::now() + PATIENCE;
    let begin = async {
        let followed = R::follow(source, seen.as_deref().unwrap_or(NOTHING), deadline).await?;
        let mut answers = followed.answers;
        if followed.marked {
            catch_up(&mut answers, side, seen).await?;
        } else {
            *seen = None;
            // The watch is opened before the list is asked for, so that the list is not older than
            // the watch's first answers: what changed between the two comes again with the watch,
            // and ends as it is.
            side.replace(R::list(source, <R as nsm_chain::Kind>::Item::default(), deadline).await?);
        }
        Ok::<_, Error>(answers)
    };
    let mut answers = match timeout_at(deadline, begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return error,
        Err(_) => {
            return Error::new(
                Code::DeadlineExceeded,
                format!("no answer within {PATIENCE:?}"),
            );
        }
    };
    side.synced.send_replace(true);
    tracing::info!(kind = R::NAME, "following the registry");
    loop {
        match next::<R>(&mut answers).await {
            Ok(Told::Mark(mark)) => *seen = Some(mark),
            Ok(told) => told.make(side),
            Err(error) => return error,
        }
    }
}

/// Takes over what comes before the first mark: all there is, or what changed.
async fn catch_up<R: Sourced>(
    answers: &mut Answers<R::Found>,
    side: &Side<R>,
    seen: &mut Option<String>,
) -> Result<(), Error> {
    let (mut whole, mut changes) = (Vec::new(), 0_usize);
    let mark = loop {
        match next::<R>(answers).await? {
            Told::Mark(mark) => break mark,
            Told::There(record) if seen.is_none() && whole.len() < MAX_RECORDS => {
                whole.push(record);
            }
            told if seen.is_some() => {
                changes += 1;
                told.make(side);
            }
            Told::There(_) | Told::Gone(_) | Told::Nothing => {}
        }
    };
    if seen.is_none() {
        tracing::info!(kind = R::NAME, records = whole.len(), "copied");
        side.replace(whole);
    } else {
        tracing::info!(kind = R::NAME, changes, "caught up");
    }
    *seen = Some(mark).filter(|mark| !mark.is_empty());
    Ok(())
}

/// What an answer says.
enum Told<R: Record> {
    There(R::Item),
    Gone(R::Item),
    Mark(String),
    Nothing,
}

impl<R: Record> Told<R> {
    fn make(self, side: &Side<R>) {
        match self {
            Self::There(record) => drop(side.put(record)),
            Self::Gone(record) => side.remove(R::id(&record)),
            Self::Mark(_) | Self::Nothing => {}
        }
    }
}

async fn next<R: Sourced>(answers: &mut Answers<R::Found>) -> Result<Told<R>, Error> {
    let found = answers.next().await;
    let found =
        found.ok_or_else(|| Error::new(Code::Unavailable, "the registry ended the watch"))??;
    Ok(match R::change(found) {
        None => Told::Nothing,
        Some((record, true)) => Told::Gone(record),
        Some((record, false)) => match R::marked(&record) {
            Some(mark) => Told::Mark(mark.to_owned()),
            None => Told::There(record),
        },
    })
}
