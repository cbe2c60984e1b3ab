//! What a denial says: one line of the log with who, what and why, and a count of its kind.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// The target of every denial's line, to filter logs by.
pub const TARGET: &str = "audit";

/// The longest part of a line, in characters: names in it may come from whoever is denied.
const MAX_TEXT: usize = 1_024;

/// Why somebody is denied something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A certificate that no bundle of ours vouches for.
    Handshake,
    /// A token, or a chain of them, that proves nothing.
    Token,
    /// A path that stands where it cannot.
    Path,
    /// The caller does not hold the role that this needs.
    Role,
    /// Somebody else's connection.
    Owner,
    /// Somebody else's registration.
    Name,
    /// Whoever answers does not hold the role that we called.
    Answer,
    /// An operator's own policy.
    Policy,
}

impl Kind {
    /// Every kind, in the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::Handshake,
        Self::Token,
        Self::Path,
        Self::Role,
        Self::Owner,
        Self::Name,
        Self::Answer,
        Self::Policy,
    ];

    /// The word for it in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Token => "token",
            Self::Path => "path",
            Self::Role => "role",
            Self::Owner => "owner",
            Self::Name => "name",
            Self::Answer => "answer",
            Self::Policy => "policy",
        }
    }
}

/// One denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its kind, by which it is counted.
    pub kind: Kind,
    /// Who is denied: a SPIFFE ID, or an address where there is none.
    pub who: String,
    /// What: `request connection nsc-0`, `register endpoint web-1`.
    pub what: String,
    /// Why, as the caller is told: a sentence that can stand alone, without any token.
    pub why: String,
}

impl Denial {
    /// A denial that nobody has been told of yet: see [`Denial::tell`].
    pub fn new(
        kind: Kind,
        who: impl fmt::Display,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            who: who.to_string(),
            what: what.into(),
            why: why.into(),
        }
    }

    /// Counts it, and writes its line.
    pub fn tell(&self) {
        self.write(self.count());
    }

    /// Counts it: how many of its kind there are now.
    pub fn count(&self) -> u64 {
        COUNTERS[self.kind as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes the line of one that was counted as the `total`th.
    pub fn write(&self, total: u64) {
        tracing::warn!(
            target: TARGET,
            kind = self.kind.name(),
            who = cut(&self.who),
            what = cut(&self.what),
            why = cut(&self.why),
            total,
            "denied"
        );
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_TEXT).map(|(at, _)| at);
    end.map_or(text, |end| &text[..end])
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Denial {}

/// One for each kind; of the whole process.
static COUNTERS: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

/// How many of each kind this process has denied since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(Kind::ALL.map(|kind| COUNTERS[kind as usize].load(Ordering::Relaxed)))
    }

    /// Of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Writes them as one line.
    pub fn log(&self) {
        tracing::info!(
            target: TARGET,
            handshake = self.of(Kind::Handshake),
            token = self.of(Kind::Token),
            path = self.of(Kind::Path),
            role = self.of(Kind::Role),
            owner = self.of(Kind::Owner),
            name = self.of(Kind::Name),
            answer = self.of(Kind::Answer),
            policy = self.of(Kind::Policy),
            total = self.total(),
            "denied since the start"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_counter() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{}", kind.name());
        }
        let before = Counts::now();
        Denial::new(
            Kind::Owner,
            "spiffe://nsm.test/thief",
            "close connection a",
            "no",
        )
        .tell();
        let after = Counts::now();
        assert_eq!(after.of(Kind::Owner), before.of(Kind::Owner) + 1);
        assert_eq!(after.total() - before.total(), 1);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let long = "\u{e9}".repeat(MAX_TEXT + 1);
        assert_eq!(cut(&long).chars().count(), MAX_TEXT);
        assert_eq!(cut("short"), "short");
    }
}
