//! An operator's own policies: files in Rego, asked after the native rules have said yes.
//!
//! A setting names them by masks (see [`mask`](crate::mask)), they are looked at again while we
//! run, and one that cannot be read as Rego is refused: at start by an error, later by a line in
//! the log, and what was in force stays. They can only deny: a file with a standard policy's name
//! runs beside the native one, where upstream puts it in its place.

use std::path::{Path, PathBuf};

use crate::{input::Input, mask::MaskError};

#[cfg(feature = "opa")]
mod loaded;
#[cfg(feature = "opa")]
use loaded::Loaded;
#[cfg(any(not(feature = "opa"), test))]
mod absent;
#[cfg(not(feature = "opa"))]
use absent::Loaded;

/// Whether this program runs policies in Rego.
pub const RUN: bool = cfg!(feature = "opa");

/// The longest file that is read, in bytes: the standard ones have a thousand.
#[cfg(feature = "opa")]
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The most files of one setting: each is asked for every request.
#[cfg(feature = "opa")]
const MAX_FILES: usize = 64;

/// Why a setting's policies are not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// What the setting says.
    #[error("{setting}: {error}")]
    Mask {
        /// The setting's name.
        setting: String,
        /// What is wrong.
        error: MaskError,
    },
    /// A program without the interpreter.
    #[error(
        "{setting} names {file}, but this program was built without policies in Rego: build it with `--features opa`, or remove the file"
    )]
    NotBuiltIn {
        /// The setting's name.
        setting: String,
        /// The file.
        file: String,
    },
    /// A file that is no policy.
    #[error("{setting}: policy {at}: {reason}")]
    Broken {
        /// The setting's name.
        setting: String,
        /// File, line and column, as far as they are known.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// The limit.
    #[error("{setting} names {files} files, at most {max} are run: name fewer")]
    TooMany {
        /// The setting's name.
        setting: String,
        /// How many.
        files: usize,
        /// The limit.
        max: usize,
    },
}

/// Why a policy did not say yes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Verdict {
    /// It said no.
    #[error("policy {0} does not allow it")]
    Denied(String),
    /// It could not say: what it says is undefined, not a boolean, or took too long.
    #[error("policy {at} cannot decide: {reason}")]
    Undecided {
        /// File, and line where it is known.
        at: String,
        /// Why.
        reason: String,
    },
}

/// The policies of one setting.
#[derive(Debug)]
pub struct Policies {
    setting: String,
    masks: Vec<String>,
    folder: PathBuf,
    loaded: Loaded,
}

impl Default for Policies {
    /// None: the native rules alone.
    fn default() -> Self {
        Self {
            setting: String::new(),
            masks: Vec::new(),
            folder: PathBuf::new(),
            loaded: Loaded::default(),
        }
    }
}

impl Policies {
    /// What the masks of `setting` name below `folder`, the working directory.
    ///
    /// # Errors
    /// A mask or a file is wrong, or this program cannot run files.
    pub fn load(setting: &str, masks: &[String], folder: &Path) -> Result<Self, LoadError> {
        let new = Self {
            setting: setting.to_owned(),
            masks: masks.to_vec(),
            folder: folder.to_owned(),
            loaded: Loaded::default(),
        };
        new.loaded.start(&new)?;
        Ok(new)
    }

    /// Looks at the files again; what changed and cannot be used is one line in the log, and what
    /// was in force stays.
    pub fn reload(&self) {
        self.loaded.reload(self);
    }

    /// Whether there is none, and nothing to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.loaded.is_empty()
    }

    /// The files in force.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.loaded.files()
    }

    /// Whether all say yes; at once where there is none.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self, input: &Input<'_>) -> Result<(), Verdict> {
        self.loaded.check(input)
    }

    fn mask_error(&self, error: MaskError) -> LoadError {
        LoadError::Mask {
            setting: self.setting.clone(),
            error,
        }
    }
}

/// The policies of a role, by who asks whom for what.
#[derive(Debug, Default)]
pub struct Custom {
    /// Connections asked of us.
    pub server: Policies,
    /// Connections that we asked for.
    pub client: Policies,
    /// Registrations asked of us.
    pub registry_server: Policies,
    /// Registrations that we asked for.
    pub registry_client: Policies,
}

impl Custom {
    /// [`Policies::reload`] of each.
    pub fn reload(&self) {
        let Self {
            server,
            client,
            registry_server,
            registry_client,
        } = self;
        for policies in [server, client, registry_server, registry_client] {
            policies.reload();
        }
    }
}
