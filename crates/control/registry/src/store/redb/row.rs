//! A row: revision and lease (each 8 bytes, little-endian), then the value.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::store::Entry;

const HEADER: usize = 16;
/// Stands for "no lease".
const NONE: u64 = 0;

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let lease = entry.lease.map_or(NONE, |lease| {
        let nanos = lease
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
    });
    let mut row = Vec::with_capacity(HEADER + entry.value.len());
    row.extend_from_slice(&entry.revision.to_le_bytes());
    row.extend_from_slice(&lease.to_le_bytes());
    row.extend_from_slice(&entry.value);
    row
}

pub(super) fn decode(key: &Arc<str>, row: &[u8]) -> Result<Entry, redb::Error> {
    let short = || {
        redb::Error::Corrupted(format!(
            "the row of {key:?} has {} bytes, at least {HEADER} are needed",
            row.len()
        ))
    };
    let (revision, rest) = row.split_first_chunk::<8>().ok_or_else(short)?;
    let (lease, value) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let lease = match u64::from_le_bytes(*lease) {
        NONE => None,
        nanos => SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)),
    };
    Ok(Entry {
        key: Arc::clone(key),
        value: value.into(),
        revision: u64::from_le_bytes(*revision),
        lease,
    })
}
