//! What a heal does next, from what it was told and what it found.

use std::time::Duration;

use nsm_chain::{Code, follow::Change};
use tokio::time::Instant;

use crate::Flow;

/// How long an endpoint may be in no registry before another one is asked for, where nobody can
/// tell whether packets flow: a registry that lost its records has them again by then.
const UNREGISTERED: Duration = Duration::from_secs(3);

/// What the next attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The connection as it is.
    AsItIs,
    /// Another endpoint, and the same one only where there is no other.
    Another,
}

/// What a heal knows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// The data path is broken.
    broken: bool,
    /// It was said to be while somebody worked on it, and nobody can tell.
    suspect: bool,
    /// Nothing is wrong with it, and another endpoint is wanted.
    moving: bool,
    unregistered: Option<Instant>,
}

impl Known {
    /// Somebody said so, before anything was tried.
    pub(super) fn told(&mut self, change: Change) {
        match change {
            Change::Down => self.broken = true,
            Change::Refresh => {}
            Change::Move => self.moving = true,
        }
    }

    /// Whether what was said has to be compared with the packets before anything is done.
    pub(super) fn in_doubt(&self) -> bool {
        !self.broken
    }

    /// What its packets say.
    pub(super) fn found(&mut self, flow: Flow) {
        match flow {
            Flow::Flows => {
                *self = Self {
                    moving: self.moving,
                    ..Self::default()
                }
            }
            Flow::Silent => self.broken = true,
            Flow::Unknown => {}
        }
    }

    /// An attempt was refused, and then its packets said this.
    pub(super) fn refused(&mut self, code: Code, flow: Flow, now: Instant) {
        // Where nobody else takes it, it stays.
        self.moving = false;
        self.found(flow);
        if flow != Flow::Unknown {
            return;
        }
        if code == Code::NotFound {
            let since = *self.unregistered.get_or_insert(now);
            self.broken |= now.duration_since(since) >= UNREGISTERED;
        } else {
            self.unregistered = None;
        }
        self.broken |= self.suspect;
    }

    /// An attempt was granted, and before that it was said that the path is broken: perhaps the
    /// one that is left, perhaps the one that was granted. Whether there is something to do.
    pub(super) fn granted_in_doubt(flow: Flow) -> Option<Self> {
        let known = Self::default();
        match flow {
            Flow::Flows => None,
            Flow::Silent => Some(Self {
                broken: true,
                ..known
            }),
            Flow::Unknown => Some(Self {
                suspect: true,
                ..known
            }),
        }
    }

    pub(super) fn ask(&self) -> Ask {
        if self.broken || self.moving {
            Ask::Another
        } else {
            Ask::AsItIs
        }
    }

    /// Packets flow, as far as anybody knows: nothing is urgent.
    pub(super) fn calm(&self) -> bool {
        !self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ask::{Another, AsItIs};

    /// One thing that happens to a heal.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Told(Change),
        Found(Flow),
        /// Refused with this code, this many milliseconds after the heal began.
        Refused(Code, Flow, u64),
    }
    use Step::{Found, Refused, Told};

    const DOWN: Step = Told(Change::Down);
    const REFRESH: Step = Told(Change::Refresh);
    const MOVE: Step = Told(Change::Move);

    /// What happened, and what is asked for then.
    const ROWS: &[(&[Step], Ask)] = &[
        (&[DOWN], Another),
        (&[REFRESH], AsItIs),
        (&[REFRESH, Found(Flow::Flows)], AsItIs),
        (&[REFRESH, Found(Flow::Unknown)], AsItIs),
        (&[REFRESH, Found(Flow::Silent)], Another),
        (&[REFRESH, DOWN], Another),
        // Another endpoint is wanted: once.
        (&[MOVE, Found(Flow::Flows)], Another),
        (&[MOVE, Found(Flow::Unknown)], Another),
        (
            &[
                MOVE,
                Found(Flow::Flows),
                Refused(Code::Unavailable, Flow::Flows, 1),
            ],
            AsItIs,
        ),
        (&[DOWN, REFRESH], Another),
        // However long hops of the control plane are away.
        (
            &[REFRESH, Refused(Code::Unavailable, Flow::Flows, 3_600_000)],
            AsItIs,
        ),
        (
            &[
                REFRESH,
                Refused(Code::Unavailable, Flow::Unknown, 3_600_000),
            ],
            AsItIs,
        ),
        (
            &[REFRESH, Refused(Code::Unavailable, Flow::Silent, 1)],
            Another,
        ),
        // Back again: the path turns out fine.
        (&[DOWN, Refused(Code::Unavailable, Flow::Flows, 1)], AsItIs),
        (
            &[DOWN, Refused(Code::Unavailable, Flow::Unknown, 1)],
            Another,
        ),
        (
            &[DOWN, Refused(Code::Unavailable, Flow::Flows, 1), DOWN],
            Another,
        ),
        // An endpoint that is in no registry.
        (
            &[REFRESH, Refused(Code::NotFound, Flow::Unknown, 0)],
            AsItIs,
        ),
        (
            &[
                REFRESH,
                Refused(Code::NotFound, Flow::Unknown, 0),
                Refused(Code::NotFound, Flow::Unknown, 3_000),
            ],
            Another,
        ),
        (
            &[
                REFRESH,
                Refused(Code::NotFound, Flow::Unknown, 0),
                Refused(Code::Unavailable, Flow::Unknown, 2_000),
                Refused(Code::NotFound, Flow::Unknown, 4_000),
            ],
            AsItIs,
        ),
        (
            &[
                REFRESH,
                Refused(Code::NotFound, Flow::Flows, 0),
                Refused(Code::NotFound, Flow::Flows, 60_000),
            ],
            AsItIs,
        ),
    ];

    fn after(mut known: Known, steps: &[Step]) -> Known {
        let began = Instant::now();
        for step in steps {
            match *step {
                Told(change) => known.told(change),
                Found(flow) => known.found(flow),
                Refused(code, flow, ms) => {
                    known.refused(code, flow, began + Duration::from_millis(ms));
                }
            }
        }
        known
    }

    #[test]
    fn what_is_asked_for_follows_from_what_is_known() {
        for (steps, ask) in ROWS {
            assert_eq!(after(Known::default(), steps).ask(), *ask, "{steps:?}");
        }
    }

    /// What the packets say after a grant in doubt, what happens then, and what is asked for.
    const DOUBTS: &[(Flow, &[Step], Option<Ask>)] = &[
        (Flow::Flows, &[], None),
        (Flow::Silent, &[], Some(Another)),
        (Flow::Unknown, &[], Some(AsItIs)),
        (
            Flow::Unknown,
            &[Refused(Code::Unavailable, Flow::Unknown, 1)],
            Some(Another),
        ),
        (
            Flow::Unknown,
            &[Refused(Code::Unavailable, Flow::Flows, 1)],
            Some(AsItIs),
        ),
    ];

    #[test]
    fn what_was_said_while_a_heal_ended_is_looked_into() {
        for (flow, steps, ask) in DOUBTS {
            let known = Known::granted_in_doubt(*flow);
            let asked = known.map(|known| after(known, steps).ask());
            assert_eq!(asked, *ask, "{flow:?} {steps:?}");
        }
    }
}
