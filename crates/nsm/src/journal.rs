//! A role's journal: what was agreed, in a file that a restart finds again.
//!
//! The file is in the role's state folder, beside its secret: ids are derived with that one, and a
//! record means nothing under other ids. It belongs there as long as the kernel state it speaks of
//! lives, so it names the boot that it was written in.

mod file;
mod writer;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nsm_chain::Journal;

use file::Found;
pub(crate) use writer::Table;
use writer::Writer;

/// Ids with their records, by what they are about.
type Records = BTreeMap<Table, Vec<(String, Vec<u8>)>>;

/// What the journal told when it was opened.
pub(crate) struct Journalled {
    writer: Option<Arc<Writer>>,
    records: Records,
    /// Nothing that was agreed is missing: what nobody speaks of is nobody's.
    pub(crate) complete: bool,
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
            complete,
        } = file::find(&path)?;
        let Some(database) = database else {
            return Ok(Self::none());
        };
        let writer = Writer::start(path, database)?;
        Ok(Self {
            writer: Some(Arc::new(writer)),
            records,
            complete,
        })
    }

    fn none() -> Self {
        Self {
            writer: None,
            records: BTreeMap::new(),
            complete: false,
        }
    }

    /// Where records of a kind go.
    pub(crate) fn journal(&self, table: Table) -> Option<Arc<dyn Journal>> {
        let writer = Arc::clone(self.writer.as_ref()?);
        Some(Arc::new(writer::Kind { writer, table }))
    }

    /// The records of a kind, which are handed out once.
    pub(crate) fn take(&mut self, table: Table) -> Vec<(String, Vec<u8>)> {
        self.records.remove(&table).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
