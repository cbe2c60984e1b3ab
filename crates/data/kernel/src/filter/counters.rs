//! What the rules have decided, read back from the kernel.

use super::message::attributes;

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The rule with this index, the first is 0.
    Rule(usize),
    /// Packets that answered allowed ones.
    Replies,
    /// Packets that no rule matched.
    Default,
}

/// Packets and bytes of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounter {
    /// What was counted.
    pub subject: Subject,
    /// Packets.
    pub packets: u64,
    /// Bytes, from the network header on.
    pub bytes: u64,
}

const REPLIES: u32 = u32::MAX - 1;
const DEFAULT: u32 = u32::MAX;

impl Subject {
    /// How a kernel rule says whose it is (its user data).
    pub(super) fn mark(self) -> [u8; 4] {
        match self {
            Self::Rule(index) => u32::try_from(index).unwrap_or(DEFAULT),
            Self::Replies => REPLIES,
            Self::Default => DEFAULT,
        }
        .to_be_bytes()
    }

    fn from_mark(mark: &[u8]) -> Option<Self> {
        match u32::from_be_bytes(mark.try_into().ok()?) {
            REPLIES => Some(Self::Replies),
            DEFAULT => Some(Self::Default),
            index => Some(Self::Rule(usize::try_from(index).ok()?)),
        }
    }
}

/// Sums the counters of dumped kernel rules (attributes of each) by subject; ours without a mark
/// are not counted.
pub(super) fn sum(rules: &[Vec<u8>]) -> Vec<RuleCounter> {
    let mut totals = std::collections::BTreeMap::<Subject, (u64, u64)>::new();
    for rule in rules {
        let mut subject = None;
        let mut counted = (0, 0);
        for (kind, value) in attributes(rule) {
            match kind {
                4 => {
                    counted = attributes(value)
                        .find_map(|(_, expr)| counter(expr))
                        .unwrap_or_default()
                }
                7 => subject = Subject::from_mark(value),
                _ => {}
            }
        }
        if let Some(subject) = subject {
            let total = totals.entry(subject).or_default();
            *total = (
                total.0.saturating_add(counted.0),
                total.1.saturating_add(counted.1),
            );
        }
    }
    totals
        .into_iter()
        .map(|(subject, (packets, bytes))| RuleCounter {
            subject,
            packets,
            bytes,
        })
        .collect()
}

/// Packets and bytes of a counter expression: NFTA_COUNTER_BYTES 1, PACKETS 2.
fn counter(expr: &[u8]) -> Option<(u64, u64)> {
    let field = |bytes, wanted| {
        attributes(bytes)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    if field(expr, 1)? != b"counter\0" {
        return None;
    }
    let data = field(expr, 2)?;
    let number = |wanted| {
        field(data, wanted)
            .and_then(|value| value.try_into().ok())
            .map(u64::from_be_bytes)
    };
    Some((number(2)?, number(1)?))
}
