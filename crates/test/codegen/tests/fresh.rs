//! What is committed is what `proto/` says.

use std::fs;

#[test]
fn generated_code_is_fresh() {
    for (path, text) in nsm_codegen::generate().expect("proto/ compiles") {
        let committed = fs::read_to_string(nsm_codegen::root().join(&path)).unwrap_or_default();
        assert!(
            committed == text,
            "{} differs from proto/: run `cargo run -p nsm-codegen`",
            path.display()
        );
    }
}
