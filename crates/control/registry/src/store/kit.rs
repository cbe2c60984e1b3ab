//! The conformance kit: what every store must do, checked the same way for all.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{Change, Expect, Store, StoreError};

type Check = Result<(), String>;

/// How many writers run at once in the last check.
const WRITERS: usize = 8;
/// How often each of them writes.
const WRITES: usize = 50;

/// Checks one empty store.
///
/// # Errors
/// Says which of the kit's rules does not hold.
pub async fn conform(store: Arc<dyn Store>) -> Check {
    reads_what_was_written(&*store).await?;
    writes_only_as_expected(&*store).await?;
    lists_by_prefix(&*store).await?;
    watches_from_a_revision(&*store).await?;
    remembers_what_is_gone(&*store).await?;
    loses_nothing_between_list_and_watch(store).await
}

fn said<T>(what: &str, answer: Result<T, StoreError>) -> Result<T, String> {
    answer.map_err(|error| format!("{what}: {error}"))
}

fn ensure(holds: bool, rule: &str) -> Check {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

async fn reads_what_was_written(store: &dyn Store) -> Check {
    let lease = Some(UNIX_EPOCH + Duration::new(1_700_000_000, 5_000));
    let first = said(
        "put",
        store
            .put("a/1", Arc::from(*b"one"), Expect::Any, lease)
            .await,
    )?;
    let entry = said("get", store.get("a/1").await)?.ok_or("a written key is not found")?;
    ensure(
        &*entry.value == b"one" && entry.revision == first && entry.lease == lease,
        "an entry is not as written",
    )?;
    let second = said(
        "put",
        store.put("a/1", Arc::from(*b""), Expect::Any, None).await,
    )?;
    let entry = said("get", store.get("a/1").await)?.ok_or("an empty value is not found")?;
    ensure(
        second == first + 1 && entry.value.is_empty() && entry.lease.is_none(),
        "a second write is not the next",
    )?;
    ensure(
        said("get", store.get("a/2").await)?.is_none(),
        "an unknown key is found",
    )
}

async fn writes_only_as_expected(store: &dyn Store) -> Check {
    let put = |key, expect| store.put(key, Arc::from(*b"v"), expect, None);
    let at = said("put of an absent key", put("b/1", Expect::Absent).await)?;
    for (key, expect, found) in [
        ("b/1", Expect::Absent, Some(at)),
        ("b/1", Expect::Revision(at + 1), Some(at)),
        ("b/2", Expect::Revision(at), None),
    ] {
        let conflict = Err(StoreError::Conflict {
            key: key.to_owned(),
            found,
        });
        ensure(
            put(key, expect).await == conflict,
            "a put that expects something else is not refused",
        )?;
        let deleted = store.delete(key, expect).await.map(|_| 0);
        ensure(
            deleted == conflict,
            "a delete that expects something else is not refused",
        )?;
    }
    let next = said("put", put("b/1", Expect::Revision(at)).await)?;
    ensure(next == at + 1, "refused writes use up revisions")?;
    let gone = said("delete", store.delete("b/1", Expect::Revision(next)).await)?;
    ensure(
        gone == Some(next + 1),
        "a deletion has no revision of its own",
    )?;
    ensure(
        said("delete", store.delete("b/1", Expect::Any).await)?.is_none(),
        "what is gone is deleted again",
    )
}

async fn lists_by_prefix(store: &dyn Store) -> Check {
    for key in ["c/2", "c/1", "c", "c0", "d/1"] {
        said(
            "put",
            store.put(key, Arc::from(*b"v"), Expect::Any, None).await,
        )?;
    }
    let listing = said("list", store.list("c/").await)?;
    let keys: Vec<&str> = listing.entries.iter().map(|entry| &*entry.key).collect();
    ensure(
        keys == ["c/1", "c/2"],
        "a listing is not what is below its prefix, by key",
    )?;
    let last = said("get", store.get("d/1").await)?.map(|entry| entry.revision);
    ensure(
        Some(listing.revision) == last,
        "a listing's revision is not that of the last write",
    )
}

async fn watches_from_a_revision(store: &dyn Store) -> Check {
    let from = said("list", store.list("e/").await)?.revision;
    said(
        "put",
        store.put("e/1", Arc::from(*b"v"), Expect::Any, None).await,
    )?;
    said(
        "put",
        store.put("f/1", Arc::from(*b"v"), Expect::Any, None).await,
    )?;
    let mut watch = said("watch", store.watch("e/", from).await)?;
    said("delete", store.delete("e/1", Expect::Any).await)?;
    let first = said("watch", watch.next().await)?;
    ensure(
        matches!(&first, Change::Put(entry) if &*entry.key == "e/1"),
        "the change before the watch is missed",
    )?;
    let second = said("watch", watch.next().await)?;
    ensure(
        second
            == Change::Delete {
                key: "e/1".into(),
                revision: from + 3,
            },
        "the change after the watch is missed",
    )
}

/// A deletion is among those of the past, or the past says that it does not reach so far.
async fn remembers_what_is_gone(store: &dyn Store) -> Check {
    said(
        "put",
        store.put("p/1", Arc::from(*b"v"), Expect::Any, None).await,
    )?;
    let gone = said("delete", store.delete("p/1", Expect::Any).await)?.ok_or("not deleted")?;
    let listed = said("list", store.list("p/").await)?.revision;
    let past = said("past", store.past("p/", listed).await)?;
    let known = past.deleted.contains(&("p/1".into(), gone));
    ensure(
        known || past.since >= gone,
        "a deletion is neither known nor said to be forgotten",
    )?;
    let again = said("past", store.past("p/", listed).await)?;
    ensure(past.ages == again.ages, "an age changes while it lasts")
}

/// Writers write, a reader lists somewhere in between and follows: it must end with what is there,
/// and have seen every revision once.
async fn loses_nothing_between_list_and_watch(store: Arc<dyn Store>) -> Check {
    let start = said("list", store.list("g/").await)?.revision;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| write_many(Arc::clone(&store), writer))
        .collect();
    let follow = async {
        tokio::task::yield_now().await;
        let listing = said("list", store.list("g/").await)?;
        let mut watch = said("watch", store.watch("g/", listing.revision).await)?;
        let mut seen = listing.revision;
        while seen < start + (WRITERS * WRITES) as u64 {
            let change = said("watch", watch.next().await)?;
            ensure(
                change.revision() == seen + 1,
                "a watch has a gap or a duplicate",
            )?;
            seen = change.revision();
        }
        Ok(())
    };
    let (written, followed) = tokio::join!(futures_util::future::join_all(writers), follow);
    written.into_iter().collect::<Check>()?;
    followed
}

async fn write_many(store: Arc<dyn Store>, writer: usize) -> Check {
    for write in 0..WRITES {
        let key = format!("g/{writer}-{}", write % 5);
        said(
            "put",
            store.put(&key, Arc::from(*b"v"), Expect::Any, None).await,
        )?;
    }
    Ok(())
}
