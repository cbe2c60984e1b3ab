//! A role's journal: what was agreed, in a file that a restart finds again.
//!
//! The file is in the role's state folder, beside its secret: ids are derived with that one, and a
//! record means nothing under other ids. It belongs there as long as the kernel state it speaks of
//! lives, so it names the boot that it was written in.

mod file;
mod writer;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nsm_chain::{Journal, Noted};
use nsm_forwarder::Whole;
use tokio::sync::watch;

use file::Found;
pub(crate) use writer::Table;
use writer::Writer;

/// Ids with their records, by what they are about.
type Records = BTreeMap<Table, Vec<(String, Vec<u8>)>>;

/// What the journal told when it was opened.
pub(crate) struct Journalled {
    writer: Option<Arc<Writer>>,
    records: Records,
    whole: bool,
}

impl Journalled {
    /// Opens the journal of the role with this name, without one where there is no folder. A
    /// damaged one is moved aside, one that cannot be opened is done without: packets flow on, and
    /// connections are asked for again.
    ///
    /// # Errors
    /// A file of a newer version, or one that another process of this name holds.
    pub(crate) fn open(folder: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let Some(folder) = folder else {
            tracing::info!("no --state-dir: after a restart connections are asked for again");
            return Ok(Self::none());
        };
        let path = folder.join(format!("{name}.journal"));
        let Found {
            database,
            records,
            whole,
        } = file::find(&path)?;
        let Some(database) = database else {
            return Ok(Self::none());
        };
        let writer = Writer::start(path, database)?;
        Ok(Self {
            writer: Some(Arc::new(writer)),
            records,
            whole,
        })
    }

    fn none() -> Self {
        Self {
            writer: None,
            records: BTreeMap::new(),
            whole: false,
        }
    }

    /// Where records of a kind go.
    pub(crate) fn journal(&self, table: Table) -> Option<Arc<dyn Journal>> {
        let writer = Arc::clone(self.writer.as_ref()?);
        Some(Arc::new(writer::Kind { writer, table }))
    }

    /// What is known of its being whole.
    pub(crate) fn wholeness(&self) -> Wholeness {
        Wholeness {
            writer: self.writer.clone(),
            whole: self.whole,
        }
    }

    /// The records of a kind, of before and from now on.
    pub(crate) fn noted(&mut self, table: Table) -> Noted {
        Noted {
            journal: self.journal(table),
            known: self.take(table),
        }
    }

    /// The records of a kind, which are handed out once.
    pub(crate) fn take(&mut self, table: Table) -> Vec<(String, Vec<u8>)> {
        self.records.remove(&table).unwrap_or_default()
    }
}

/// Whether a journal speaks of everything: only then what it does not speak of is nobody's.
#[derive(Clone)]
pub(crate) struct Wholeness {
    writer: Option<Arc<Writer>>,
    whole: bool,
}

impl Wholeness {
    /// Whether commits go through, as that changes; never where there is no journal.
    pub(crate) fn written(&self) -> watch::Receiver<bool> {
        let written = self.writer.as_ref().map(|writer| writer.written());
        written.unwrap_or_else(|| watch::channel(false).1)
    }
}

impl Whole for Wholeness {
    fn is_whole(&self) -> bool {
        self.whole
    }

    fn is_possible(&self) -> bool {
        self.writer.is_some()
    }

    fn make(&self) {
        if let Some(writer) = &self.writer {
            writer.whole();
        }
    }
}

#[cfg(test)]
mod tests;
