//! How far a copy of a registry has come: between our own, beside a Find that watches.
//!
//! A copy that names what it has seen gets what changed since, and *marks* between the changes: a
//! record without a name that says how far it is now. A peer that does not know the key sends
//! everything and no marks; one that does not send it gets no marks.

use nsm_chain::{Code, Error};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// In a request: what was seen, or [`NOTHING`]. In an answer's header: marks will come.
pub const SEEN_KEY: &str = "nsm-registry-seen";
/// Nothing was seen yet; send everything, with marks.
pub const NOTHING: &str = "0";
/// The longest text that is read: two numbers and what joins them.
pub const MAX_SEEN_BYTES: usize = 64;

/// What the caller has seen: in a call's scratch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(pub String);

/// Marks will come: left in a call's scratch by whoever answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked;

/// Says what was seen.
///
/// # Errors
/// A text that is no mark.
pub(crate) fn put(metadata: &mut MetadataMap, seen: &str) -> Result<(), Error> {
    let value = AsciiMetadataValue::try_from(seen).map_err(|_| unreadable(seen.len()))?;
    metadata.insert(SEEN_KEY, value);
    Ok(())
}

/// What was seen; `None` where the key is absent.
///
/// # Errors
/// A text that is no mark.
pub(crate) fn get(metadata: &MetadataMap) -> Result<Option<Seen>, Error> {
    let Some(value) = metadata.get(SEEN_KEY) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if text.len() <= MAX_SEEN_BYTES => Ok(Some(Seen(text.to_owned()))),
        Ok(_) | Err(_) => Err(unreadable(value.len())),
    }
}

fn unreadable(bytes: usize) -> Error {
    let message = format!(
        "metadata {SEEN_KEY:?} has {bytes} bytes; up to {MAX_SEEN_BYTES} of ASCII are read: leave it out to get everything"
    );
    Error::new(Code::InvalidArgument, message)
}
