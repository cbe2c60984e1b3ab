//! Clocks that disagree: what a peer's token tells of its clock.
//!
//! A token is made just before it is sent, for ten minutes at most unless its maker is told
//! otherwise. One that is over when it comes, or lives much longer, is no attack but a clock.

use std::time::{Duration, SystemTime};

use nsm_identity::{token, token_cache::DEFAULT_TOKEN_LIFE};

use crate::peer::Peer;

/// Clocks that agree so far are kept by anybody's time service, and no lease suffers from it.
const TOLERATED: Duration = Duration::from_secs(30);

/// How far a clock is off, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// The token was over by this much when it came.
    Behind(Duration),
    /// The token lives this much longer than tokens do.
    Ahead(Duration),
}

/// What the end of a token that has just come says of its maker's clock.
#[must_use]
pub fn of(expires: SystemTime, now: SystemTime) -> Option<Skew> {
    match expires.duration_since(now) {
        Err(late) => Some(Skew::Behind(late.duration())),
        Ok(left) => {
            let beyond = left.saturating_sub(DEFAULT_TOKEN_LIFE);
            (beyond > TOLERATED).then_some(Skew::Ahead(beyond))
        }
    }
}

/// When a peer's token ends: as its metadata says, and no later than the token itself says, which
/// alone is signed. A clock that is off is told of once for each connection.
pub(crate) fn end(peer: &Peer, jwt: &str, expires: SystemTime, now: SystemTime) -> SystemTime {
    // What cannot be read is refused by whoever verifies it.
    let Ok(claims) = token::decode_unverified(jwt) else {
        return expires;
    };
    if let Some(skew) = of(claims.expires(), now).filter(|_| peer.first_skew()) {
        tell(peer, skew);
    }
    expires.min(claims.expires())
}

/// What a peer says is left of its token's life: no more than tokens live, unless the token itself
/// says more, so that nobody gives itself a lease that it did not sign.
pub(crate) fn left(
    said: Option<Duration>,
    expires: SystemTime,
    now: SystemTime,
) -> Option<Duration> {
    let by_ours = expires.duration_since(now).unwrap_or_default();
    said.map(|said| said.min(by_ours.max(DEFAULT_TOKEN_LIFE)))
}

fn tell(peer: &Peer, skew: Skew) {
    let (peer, address) = (&peer.id, &peer.address);
    match skew {
        Skew::Behind(by) => tracing::warn!(
            %peer,
            address,
            skew_s = by.as_secs(),
            "the clock of a peer is behind ours: its token was over {} before it came; set the clocks of both sides",
            humantime::format_duration(whole(by))
        ),
        Skew::Ahead(by) => tracing::warn!(
            %peer,
            address,
            skew_s = by.as_secs(),
            "the clock of a peer is ahead of ours by {}, or its tokens live that much longer (NSM_MAX_TOKEN_LIFETIME): \
             set the clocks of both sides",
            humantime::format_duration(whole(by))
        ),
    }
}

fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_a_token_tells_of_a_clock() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let second = Duration::from_secs;
        for (ends, expected) in [
            (600, None),
            (1, None),
            (630, None),
            (631, Some(Skew::Ahead(second(31)))),
            // Ten minutes either way.
            (1_200, Some(Skew::Ahead(second(600)))),
            (0, None),
            (-1, Some(Skew::Behind(second(1)))),
            (-600, Some(Skew::Behind(second(600)))),
        ] {
            let at = match u64::try_from(ends) {
                Ok(ends) => now + second(ends),
                Err(_) => now - second(i64::unsigned_abs(ends)),
            };
            assert_eq!(of(at, now), expected, "{ends}");
        }
    }
}
