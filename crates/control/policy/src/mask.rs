//! Which files a setting names: upstream's masks.
//!
//! sdk `pkg/tools/opa/policies.go` (`PoliciesByFileMask`): a mask is the path of a file, or a
//! regular expression over the paths of the files below its own folder, relative to the working
//! directory. The standard policies are there as files too, compiled in. Upstream looks for
//! `policies/...` where a mask says `etc/nsm/opa/...`; we look in both places.

use std::path::{Path, PathBuf};

/// What masks begin with that mean the standard policies' folder.
pub const STANDARD_FOLDER: &str = "etc/nsm/opa";
/// Where upstream really looks for it.
const UPSTREAM_FOLDER: &str = "policies";

/// The standard policies, all of them in force whatever a mask says.
pub const STANDARD: [&str; 7] = [
    "client/next_token_signed.rego",
    "common/tokens_chained.rego",
    "common/tokens_expired.rego",
    "common/tokens_valid.rego",
    "monitor/service_connection.rego",
    "registry/client_allowed.rego",
    "server/prev_token_signed.rego",
];

/// Files below one mask's folder that are looked at: one that names `/` by mistake shall fail, not
/// walk the machine.
const MAX_LOOKED_AT: usize = 10_000;
/// Folders within folders.
const MAX_DEPTH: usize = 8;

/// Why a mask does not say which files it means.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Not a regular expression.
    #[error("mask {mask:?} is not a regular expression: {reason}")]
    Expression {
        /// The mask.
        mask: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A typing error would otherwise be a policy that nobody enforces.
    #[error(
        "mask {mask:?} names no file and no standard policy (looked from {folder}): correct it, or leave it out"
    )]
    Nothing {
        /// The mask.
        mask: String,
        /// The working directory.
        folder: String,
    },
    /// Upstream reads files only.
    #[error("mask {0:?} is a folder: name its files, as in {0}/.*.rego")]
    Folder(String),
    /// The limit.
    #[error("mask {0:?}: more than {MAX_LOOKED_AT} files are below its folder; name a smaller one")]
    TooMany(String),
    /// A folder that cannot be read.
    #[error("mask {mask:?}: {path}: {reason}")]
    Unreadable {
        /// The mask.
        mask: String,
        /// What could not be read.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Tells whether a path is one that a mask means.
pub(crate) trait Matcher {
    /// An expression as upstream compiles it, for the whole path.
    fn new(expression: &str) -> Result<Self, String>
    where
        Self: Sized;
    /// Whether the path matches.
    fn matches(&self, path: &str) -> bool;
}

/// The files that a mask names below `folder`, sorted; none where it names standard policies alone.
pub(crate) fn files<M: Matcher>(mask: &str, folder: &Path) -> Result<Vec<PathBuf>, MaskError> {
    let mut found = Vec::new();
    let mut standard = false;
    for place in places(mask) {
        let path = folder.join(&place);
        if path.is_file() {
            found.push(PathBuf::from(place));
            continue;
        }
        if path.is_dir() {
            return Err(MaskError::Folder(mask.to_owned()));
        }
        let expression = M::new(&place).map_err(|reason| MaskError::Expression {
            mask: mask.to_owned(),
            reason,
        })?;
        standard |= [STANDARD_FOLDER, UPSTREAM_FOLDER]
            .iter()
            .flat_map(|at| STANDARD.map(|name| format!("{at}/{name}")))
            .any(|name| expression.matches(&name));
        let below = Path::new(&place).parent().unwrap_or(Path::new(""));
        let mut walk = Walk {
            mask,
            folder,
            seen: 0,
            found: Vec::new(),
        };
        walk.down(below, 0)?;
        let matching = |path: &PathBuf| path.to_str().is_some_and(|path| expression.matches(path));
        found.extend(walk.found.into_iter().filter(matching));
    }
    if found.is_empty() && !standard {
        return Err(MaskError::Nothing {
            mask: mask.to_owned(),
            folder: folder.display().to_string(),
        });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Where a mask is looked for.
fn places(mask: &str) -> Vec<String> {
    let upstream = mask.replace(STANDARD_FOLDER, UPSTREAM_FOLDER);
    if upstream == mask {
        vec![upstream]
    } else {
        vec![mask.to_owned(), upstream]
    }
}

struct Walk<'a> {
    mask: &'a str,
    folder: &'a Path,
    seen: usize,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn down(&mut self, below: &Path, depth: usize) -> Result<(), MaskError> {
        let at = self.folder.join(below);
        let unreadable = |error: std::io::Error| MaskError::Unreadable {
            mask: self.mask.to_owned(),
            path: at.display().to_string(),
            reason: error.to_string(),
        };
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            self.seen += 1;
            if self.seen > MAX_LOOKED_AT {
                return Err(MaskError::TooMany(self.mask.to_owned()));
            }
            let name = entry.file_name();
            // Kubernetes keeps a mounted map's files in `..data`, with links to them beside it.
            if name.to_string_lossy().starts_with("..") {
                continue;
            }
            let path = below.join(&name);
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                if depth < MAX_DEPTH {
                    self.down(&path, depth + 1)?;
                }
            } else if self.folder.join(&path).is_file() {
                self.found.push(path);
            }
        }
        Ok(())
    }
}
