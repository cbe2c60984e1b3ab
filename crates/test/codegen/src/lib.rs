//! Writes the Rust of `proto/`: messages by buffa (unknown fields kept), gRPC stubs by tonic-build,
//! both without protoc. What it writes is committed, so that a build of the product needs none of
//! this.

#![forbid(unsafe_code)]

mod messages;
mod stubs;

use std::path::{Path, PathBuf};

/// A generated file: where it belongs below the workspace root, and its text.
pub type Generated = (PathBuf, String);

/// The workspace root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Everything that is generated from `proto/`.
///
/// # Errors
/// A .proto file that does not compile, named.
pub fn generate() -> anyhow::Result<Vec<Generated>> {
    let mut files = messages::generate(&root().join("proto"))?;
    files.extend(stubs::generate()?);
    Ok(files)
}
