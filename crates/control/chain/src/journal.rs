//! What a role writes down of each item, so that it is the same role after a restart.
//!
//! A record says what was agreed, never what was tried: `begin` writes it when an item is answered
//! and strikes it when the item is gone. It is written behind the answer, since a commit on every
//! hop's disk would add up along a path; what a kill takes away in between is asked for again by
//! the hop before. Only who would make links again waits, once they are taken down by a Close and
//! before the next hop hears of it: their addresses are somebody else's after that. Tokens are
//! secrets and not in it: the next refresh brings new ones.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buffa::Message;
use futures_util::{StreamExt as _, stream};
use nsm_api::connection::Path;
use nsm_model::{ids::ConnectionKey, spiffe::SpiffeId};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Duration, timeout},
};

use crate::{Chain, Code, Error, Kind, Own, store::Notes};

/// Where records go, in order. An implementation queues, and says by itself what it could not
/// write.
pub trait Journal: Send + Sync {
    /// This is the record of the item with this id from now on.
    fn keep(&self, id: &str, record: Vec<u8>);
    /// The item is gone.
    fn forget(&self, id: &str);
    /// Tells when all that was said is written.
    fn written(&self) -> Written {
        Written::now()
    }
}

/// How long a disk is waited for: one that stands still keeps no Close from its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was said before is being written.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<()>);

impl Written {
    /// It is written, or cannot be, when the other half is dropped.
    #[must_use]
    pub fn pending() -> (oneshot::Sender<()>, Self) {
        let (send, receive) = oneshot::channel();
        (send, Self(receive))
    }

    /// Nothing is to be waited for.
    #[must_use]
    pub fn now() -> Self {
        Self::pending().1
    }

    /// Waits until a restart finds what was said, no longer than a disk may take.
    pub async fn settled(self) {
        let _late = timeout(PATIENCE, self.0).await;
    }
}

/// Records of another kind than items: where they go, and those of before.
#[derive(Clone, Default)]
pub struct Noted {
    /// Where they are written down; without one a restart knows none.
    pub journal: Option<Arc<dyn Journal>>,
    /// Those of before, by id.
    pub known: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Noted({} of before)", self.known.len())
    }
}

/// What is kept of one item.
#[derive(Debug, Clone)]
pub struct Record<K: Kind> {
    /// Whose it is here, where its kind has paths in its messages.
    pub own: Option<Own>,
    /// Who brought it, as its handshake proved.
    pub bringer: Option<SpiffeId>,
    /// The request that was answered, without tokens.
    pub request: K::Request,
    /// The answer, without tokens.
    pub item: K::Item,
    /// What elements noted.
    pub notes: Notes,
}

/// The record as it is written. Fields are added, never given another meaning.
#[derive(Serialize, Deserialize)]
struct WrittenRecord {
    own: Option<WrittenOwn>,
    bringer: Option<String>,
    /// Protobuf, base64.
    request: String,
    /// Protobuf, base64.
    item: String,
    notes: Notes,
}

#[derive(Serialize, Deserialize)]
struct WrittenOwn {
    owner: String,
    owner_id: String,
    id: String,
    index: u32,
}

impl<K: Kind> Record<K> {
    /// The bytes of the record.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let own = self.own.as_ref().map(|own| WrittenOwn {
            owner: own.key.owner.to_string(),
            owner_id: own.key.id.clone(),
            id: own.id.clone(),
            index: own.index,
        });
        let written = WrittenRecord {
            own,
            bringer: self.bringer.as_ref().map(ToString::to_string),
            request: encode(&self.request),
            item: encode(&self.item),
            notes: self.notes.clone(),
        };
        // Strings and numbers alone: there is nothing in it that JSON could refuse.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads what [`Record::write`] wrote, here or in an older version.
    ///
    /// # Errors
    /// Says what of it cannot be read.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |what: &str, cause: &dyn std::fmt::Display| {
            Error::new(
                Code::Internal,
                format!("a journalled {}: {what}: {cause}", K::NAME),
            )
        };
        let written: WrittenRecord =
            serde_json::from_slice(bytes).map_err(|error| bad("record", &error))?;
        let own = written.own.map(|own| {
            let owner = own.owner.parse();
            owner.map(|owner| Own {
                key: ConnectionKey {
                    owner,
                    id: own.owner_id,
                },
                id: own.id,
                index: own.index,
            })
        });
        let bringer = written.bringer.map(|id| id.parse()).transpose();
        Ok(Self {
            own: own.transpose().map_err(|error| bad("owner", &error))?,
            bringer: bringer.map_err(|error| bad("bringer", &error))?,
            request: decode(&written.request).map_err(|error| bad("request", &error))?,
            item: decode(&written.item).map_err(|error| bad("answer", &error))?,
            notes: written.notes,
        })
    }
}

/// What became of the records of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Items that were taken up again.
    pub taken: usize,
    /// Items that are gone for good.
    pub gone: usize,
    /// Records that could not be read: what they speak of may still be there.
    pub unreadable: usize,
}

/// How many items are taken up at a time: enough to keep a kernel's workers busy.
const AT_ONCE: usize = 16;

/// Takes up every item that a journal tells of: ids with their records.
pub async fn restore<K: Kind>(chain: &Chain<K>, records: Vec<(String, Vec<u8>)>) -> Restored {
    let one = async |(id, bytes): (String, Vec<u8>)| match Record::<K>::read(&bytes) {
        Err(error) => {
            tracing::error!(id, %error, "left out of what is taken up again");
            Restored {
                unreadable: 1,
                ..Restored::default()
            }
        }
        Ok(record) => match chain.restore(&record).await {
            Ok(()) => Restored {
                taken: 1,
                ..Restored::default()
            },
            Err(error) => {
                tracing::info!(id, %error, "gone while we were away");
                Restored {
                    gone: 1,
                    ..Restored::default()
                }
            }
        },
    };
    stream::iter(records)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .fold(Restored::default(), async |sum, one| Restored {
            taken: sum.taken + one.taken,
            gone: sum.gone + one.gone,
            unreadable: sum.unreadable + one.unreadable,
        })
        .await
}

/// A message as text.
pub(crate) fn encode(message: &impl Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

/// The message in a text of [`encode`].
pub(crate) fn decode<M: Message>(text: &str) -> Result<M, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    M::decode_from_slice(&bytes).map_err(|error| error.to_string())
}

/// A message inside a note: `#[serde(with = "nsm_chain::message")]`.
pub mod message {
    use buffa::Message;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes protobuf in base64.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        message: &impl Message,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(message))
    }

    /// Reads it.
    ///
    /// # Errors
    /// Neither base64 nor that message.
    pub fn deserialize<'de, M: Message, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<M, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decode(&text).map_err(D::Error::custom)
    }
}

/// Takes the tokens out of a path; their times stay.
pub(crate) fn without_tokens(path: &mut Path) {
    for segment in &mut path.path_segments {
        segment.token.clear();
    }
}

/// Gives a path that was kept without tokens those that a caller brings for the same segments.
pub(crate) fn with_tokens(kept: &mut Path, brought: &Path) {
    let segments = kept.path_segments.iter_mut().zip(&brought.path_segments);
    for (kept, brought) in segments {
        if kept.token.is_empty() && kept.name == brought.name {
            kept.token.clone_from(&brought.token);
            kept.expires.clone_from(&brought.expires);
        }
    }
}
