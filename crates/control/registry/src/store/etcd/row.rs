//! A row in etcd: its format, lease (end, and how long that was from then), the mark of its write,
//! the value. Numbers are 8 bytes, little-endian.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{pb, unsigned};
use crate::store::Entry;

/// The only format so far. A newer one is refused, row by row.
const FORMAT: u8 = 1;
/// Stands for "no lease".
const NONE: u64 = 0;
/// How far the clocks of two registries may disagree unnoticed: what their records' times may be
/// off by. Beyond it a reader counts from when it saw the row.
const SKEW: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) lease: Option<SystemTime>,
    pub(super) left: Option<Duration>,
    /// The process, and which of its writes.
    pub(super) mark: (u64, u64),
    pub(super) value: &'a [u8],
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error(
        "the row of {key:?} has format {found}, this version knows {FORMAT}: run the version that wrote it"
    )]
    Newer { key: String, found: u8 },
    #[error("the row of {key:?} was not written by a registry: use another prefix, or delete it")]
    Foreign { key: String },
}

impl RowError {
    /// The others can be read: this one is named and left out.
    pub(super) fn log(&self) {
        tracing::error!(error = %self, "a row in etcd is left out");
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Row<'a> {
    pub(super) fn write(&self) -> Vec<u8> {
        let lease = self.lease.map_or(NONE, |lease| {
            nanos(lease.duration_since(UNIX_EPOCH).unwrap_or_default()).max(1)
        });
        let left = self.left.map_or(NONE, nanos);
        let mut row = Vec::with_capacity(1 + 4 * 8 + self.value.len());
        row.push(FORMAT);
        for number in [lease, left, self.mark.0, self.mark.1] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        row.extend_from_slice(self.value);
        row
    }

    pub(super) fn read(row: &'a [u8]) -> Result<Self, RowError> {
        let key = String::new();
        let Some((&format, mut rest)) = row.split_first() else {
            return Err(RowError::Foreign { key });
        };
        if format != FORMAT {
            return Err(RowError::Newer { key, found: format });
        }
        let mut number = || {
            let (number, more) = rest.split_first_chunk::<8>()?;
            rest = more;
            Some(u64::from_le_bytes(*number))
        };
        let numbers = [number(), number(), number(), number()];
        let [Some(lease), Some(left), Some(process), Some(write)] = numbers else {
            return Err(RowError::Foreign { key });
        };
        let lease = (lease != NONE)
            .then(|| UNIX_EPOCH.checked_add(Duration::from_nanos(lease)))
            .flatten();
        Ok(Self {
            lease,
            left: lease.map(|_| Duration::from_nanos(left)),
            mark: (process, write),
            value: rest,
        })
    }

    /// When it ends, by the clock of whoever reads it now.
    fn ends(&self, now: SystemTime) -> Option<SystemTime> {
        let lease = self.lease?;
        let left = self.left.filter(|left| !left.is_zero());
        let Some(from_now) = left.and_then(|left| now.checked_add(left)) else {
            return Some(lease);
        };
        let apart = lease
            .duration_since(from_now)
            .or_else(|_| from_now.duration_since(lease))
            .unwrap_or_default();
        Some(if apart > SKEW { from_now } else { lease })
    }
}

/// What etcd has as the store's entry, without the prefix.
pub(super) fn entry(below: &str, kv: &pb::KeyValue, now: SystemTime) -> Result<Entry, RowError> {
    let key = key(below, &kv.key)?;
    let row = Row::read(&kv.value).map_err(|error| match error {
        RowError::Newer { found, .. } => RowError::Newer {
            key: key.to_string(),
            found,
        },
        RowError::Foreign { .. } => RowError::Foreign {
            key: key.to_string(),
        },
    })?;
    Ok(Entry {
        key,
        value: row.value.into(),
        revision: unsigned(kv.mod_revision),
        lease: row.ends(now),
    })
}

/// The store's key of etcd's.
pub(super) fn key(below: &str, key: &[u8]) -> Result<Arc<str>, RowError> {
    let text = std::str::from_utf8(key).ok();
    let own = text.and_then(|text| text.strip_prefix(below));
    own.map(Arc::from).ok_or_else(|| RowError::Foreign {
        key: String::from_utf8_lossy(key).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_700_000_000);

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let lease = UNIX_EPOCH + START + Duration::new(60, 7);
        for (lease, left) in [
            (None, None),
            (Some(lease), Some(Duration::new(60, 7))),
            (Some(lease), Some(Duration::ZERO)),
        ] {
            for value in [&b""[..], b"value"] {
                let row = Row {
                    lease,
                    left,
                    mark: (u64::MAX, 3),
                    value,
                };
                assert_eq!(Row::read(&row.write()), Ok(row));
            }
        }
        for (bytes, says) in [
            (&b""[..], "was not written by a registry"),
            (b"\x01short", "was not written by a registry"),
            (b"\x02and more", "has format 2, this version knows 1"),
        ] {
            let error = Row::read(bytes).expect_err("not a row").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_clock_that_is_off_ends_nothing_early_or_late() {
        let at = |seconds: i64| UNIX_EPOCH + START.saturating_add_signed(seconds);
        let row = Row {
            lease: Some(at(60)),
            left: Some(Duration::from_secs(60)),
            mark: (0, 0),
            value: b"",
        };
        for (read_at, ends) in [(0, 60), (1, 60), (3600, 3660), (-3600, -3540)] {
            assert_eq!(row.ends(at(read_at)), Some(at(ends)), "read at {read_at}");
        }
        let ended = Row {
            left: Some(Duration::ZERO),
            ..row
        };
        assert_eq!(ended.ends(at(3600)), Some(at(60)));
    }

    trait Signed {
        fn saturating_add_signed(self, seconds: i64) -> Self;
    }

    impl Signed for Duration {
        fn saturating_add_signed(self, seconds: i64) -> Self {
            Self::from_secs(self.as_secs().saturating_add_signed(seconds))
        }
    }
}
