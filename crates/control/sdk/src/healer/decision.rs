//! What a heal does next, from what it was told and what it found.

use std::time::Duration;

use nsm_api::connection::Connection;
use nsm_chain::{Code, follow::Change};
use tokio::time::Instant;

use crate::Flow;

/// How long an endpoint may be in no registry before another one is asked for, where nobody can
/// tell whether packets flow: a registry that lost its records has them again by then.
const UNREGISTERED: Duration = Duration::from_secs(3);

/// What is said of a connection; of two things the graver one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    /// It must be asked for again, as it is.
    Refresh,
    /// The same, and a hop further on has other addresses or another MTU for it than we: packets
    /// of the old ones say nothing.
    Renewed,
    /// It works, and another endpoint is wanted for it.
    Move,
    /// Its data path is known to be broken.
    Down,
}

impl Word {
    /// What a hop says with the connection as that hop shows it, where it does, of one that was
    /// granted so.
    pub(super) fn of(change: Change, shown: Option<&Connection>, granted: &Connection) -> Self {
        let others = |shown: &Connection| {
            let (then, now) = (&granted.context, &shown.context);
            now.is_set() && (then.ip_context != now.ip_context || then.MTU != now.MTU)
        };
        match change {
            Change::Down => Self::Down,
            Change::Move => Self::Move,
            Change::Refresh if shown.is_some_and(others) => Self::Renewed,
            Change::Refresh => Self::Refresh,
        }
    }
}

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
    /// Further on it is another one by now: there is nothing to compare with packets.
    renewed: bool,
    unregistered: Option<Instant>,
}

impl Known {
    /// Somebody said so, before anything was tried.
    pub(super) fn told(&mut self, word: Word) {
        self.renewed = word == Word::Renewed;
        self.broken |= word == Word::Down;
        self.moving |= word == Word::Move;
    }

    /// Whether what was said has to be compared with the packets before anything is done.
    pub(super) fn in_doubt(&self) -> bool {
        !self.broken && !self.renewed
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
    use buffa::MessageField;
    use nsm_api::connectioncontext::{ConnectionContext, IPContext};

    use super::*;
    use Ask::{Another, AsItIs};

    /// One thing that happens to a heal.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Told(Word),
        Found(Flow),
        /// Refused with this code, this many milliseconds after the heal began.
        Refused(Code, Flow, u64),
    }
    use Step::{Found, Refused, Told};

    const DOWN: Step = Told(Word::Down);
    const REFRESH: Step = Told(Word::Refresh);
    const MOVE: Step = Told(Word::Move);
    const RENEWED: Step = Told(Word::Renewed);

    /// What happened, and what is asked for then.
    const ROWS: &[(&[Step], Ask)] = &[
        (&[DOWN], Another),
        (&[REFRESH], AsItIs),
        (&[REFRESH, Found(Flow::Flows)], AsItIs),
        (&[REFRESH, Found(Flow::Unknown)], AsItIs),
        (&[REFRESH, Found(Flow::Silent)], Another),
        (&[REFRESH, DOWN], Another),
        (&[RENEWED], AsItIs),
        (&[RENEWED, Found(Flow::Silent)], Another),
        (&[RENEWED, DOWN], Another),
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
                Told(word) => known.told(word),
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

    #[test]
    fn what_is_other_further_on_is_asked_for_before_packets_are() {
        let context = |address: &str, mtu: u32| {
            let ip = IPContext {
                src_ip_addrs: vec![address.to_owned()],
                ..Default::default()
            };
            Connection {
                context: MessageField::some(ConnectionContext {
                    ip_context: MessageField::some(ip),
                    MTU: mtu,
                    ..Default::default()
                }),
                ..Default::default()
            }
        };
        let granted = context("a", 1500);
        for (change, shown, expected) in [
            (Change::Refresh, None, Word::Refresh),
            // It says nothing of addresses.
            (Change::Refresh, Some(Connection::default()), Word::Refresh),
            (Change::Refresh, Some(granted.clone()), Word::Refresh),
            (Change::Refresh, Some(context("b", 1500)), Word::Renewed),
            (Change::Refresh, Some(context("a", 1400)), Word::Renewed),
            (Change::Down, Some(context("b", 1500)), Word::Down),
            (Change::Move, Some(context("b", 1500)), Word::Move),
        ] {
            let word = Word::of(change, shown.as_ref(), &granted);
            assert_eq!(word, expected, "{change:?} {shown:?}");
            let mut known = Known::default();
            known.told(word);
            let asks_packets = matches!(word, Word::Refresh | Word::Move);
            assert_eq!(known.in_doubt(), asks_packets, "{word:?}");
        }
    }
}
