//! The tracked files of the work tree.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A tracked file: its path below the root with `/` between the parts, and its text.
#[derive(Debug, Clone)]
pub struct File {
    /// Below the workspace root.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// The workspace root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Every tracked text file, sorted by path, without those that are gone or not UTF-8.
///
/// # Errors
/// git is missing, or this is not a git work tree.
pub fn files() -> Result<Vec<File>> {
    let root = root();
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached"])
        .current_dir(&root)
        .output()
        .context("git ls-files: is git installed?")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).context("a tracked file's name is not UTF-8")?;
    let mut files: Vec<File> = names
        .split_terminator('\0')
        .filter_map(|path| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(File {
                path: path.to_owned(),
                text,
            })
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

// === impl File ===

impl File {
    /// A file for a planted breach.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Rust that somebody wrote: not what a generator writes.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs") && !self.path.contains("/generated/")
    }

    /// Rust that ships: below a crate's `src`, and not a file of tests.
    #[must_use]
    pub fn is_production(&self) -> bool {
        self.is_rust()
            && self.path.contains("/src/")
            && !self.path.ends_with("/tests.rs")
            && !self.path.contains("/tests/")
            && !self.path.starts_with("crates/test/")
    }

    /// The text up to the unit tests at its bottom.
    #[must_use]
    pub fn production_text(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or(&self.text)
    }
}
