//! Files of network services.

use std::{
    fs::File,
    io::{self, Read as _},
};

use anyhow::Context as _;
use nsm_api::registry::NetworkService;
use nsm_model::service::load_yaml;

/// The most that is read: one byte more than the largest file is enough to refuse it.
const MAX_BYTES: u64 = (1 << 20) + 1;

/// Reads every service of a file, or of standard input for `-`.
pub(crate) fn read(path: &str) -> anyhow::Result<Vec<NetworkService>> {
    let mut text = String::new();
    let read = if path == "-" {
        io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
    };
    read.with_context(|| format!("-f {path}: cannot be read"))?;
    load_yaml(&text).with_context(|| format!("-f {path}"))
}
