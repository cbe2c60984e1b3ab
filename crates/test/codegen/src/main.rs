//! `cargo run -p nsm-codegen` writes the generated files anew.

#![forbid(unsafe_code)]

use std::fs;

fn main() -> anyhow::Result<()> {
    for (path, text) in nsm_codegen::generate()? {
        let path = nsm_codegen::root().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
    }
    Ok(())
}
