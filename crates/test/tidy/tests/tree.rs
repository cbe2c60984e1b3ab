//! The tracked files keep the house rules, and each rule catches a planted breach.

use nsm_tidy::{
    docs, laws, source,
    tree::{File, files},
    words,
};

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_tree_is_read() {
    let files = files().unwrap();
    for path in ["Cargo.toml", "LICENSE", "crates/core/api/src/lib.rs"] {
        assert!(
            files.iter().any(|file| file.path == path),
            "{path} is not tracked"
        );
    }
}

#[test]
fn no_forbidden_word() {
    assert_none(
        &files()
            .unwrap()
            .iter()
            .flat_map(words::check)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_have_the_shape_of_the_house() {
    assert_none(
        &files()
            .unwrap()
            .iter()
            .flat_map(source::check)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn each_floor_keeps_its_law() {
    assert_none(&laws::check(&files().unwrap()));
}

#[test]
fn documents_are_whole() {
    assert_none(&docs::check(&files().unwrap()));
}

#[test]
fn planted_words_are_caught() {
    let rust = "crates/core/model/src/x.rs";
    for (path, text, count) in [
        (rust, "fn ok() {}", 0),
        (rust, &["to", "do!()"].concat(), 1),
        (rust, &["// FIX", "ME later"].concat(), 1),
        (rust, "mkdtemp(\"nsm-XXXXXX\")", 0),
        (rust, &["#[ig", "nore]"].concat(), 1),
        ("README.md", &["see /wo", "rk/main"].concat(), 1),
        ("docs/a.md", &["Co-auth", "ored-by: x"].concat(), 1),
        (rust, "std::process::Command::new(\"ip\")", 1),
        (
            rust,
            "#[cfg(test)] mod tests { use std::process::Command; }",
            0,
        ),
        (
            "crates/core/model/tests/x.rs",
            "std::process::Command::new(\"ip\")",
            0,
        ),
        (
            "crates/lab/src/x.rs",
            "std::process::Command::new(\"nsm\")",
            0,
        ),
        ("crates/lab/src/x.rs", "std::process::exit(1)", 1),
    ] {
        let wrong = words::check(&File::new(path, text));
        assert_eq!(wrong.len(), count, "{path}: {text}: {wrong:?}");
    }
}

#[test]
fn planted_shapes_are_caught() {
    let doc = "//! A module.\n";
    let long = format!("{doc}{}", "fn f() {}\n".repeat(source::FILE_LINES_MAX));
    let wide = format!("{doc}// {}\n", "a".repeat(source::COMMENT_COLUMNS_MAX));
    let manifest = "description = \"x\"\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n";
    let nameless = "//! A test.\nfn t() { println!(\"skipped: needs root\"); }";
    let skip = format!("{doc}fn t() {{ println!(\"skipping, no kernel\"); }}");
    for (path, text, count) in [
        ("crates/core/model/src/x.rs", doc, 0),
        ("crates/core/model/src/x.rs", "fn no_doc() {}", 1),
        ("crates/core/model/src/x.rs", long.as_str(), 1),
        ("crates/core/model/src/x/tests.rs", long.as_str(), 0),
        ("crates/core/api/src/generated/x.rs", &long[doc.len()..], 0),
        ("crates/core/model/src/x.rs", wide.as_str(), 1),
        ("crates/core/model/src/lib.rs", doc, 1),
        (
            "crates/core/model/src/lib.rs",
            "//! A crate.\n\n#![forbid(unsafe_code)]\n",
            0,
        ),
        ("crates/data/kernel/src/lib.rs", doc, 0),
        ("crates/control/manager/src/elements/lease.rs", doc, 1),
        (
            "crates/control/manager/src/elements/lease.rs",
            "//! *Where it stands*: last.\n",
            0,
        ),
        ("crates/control/manager/src/elements/mod.rs", doc, 0),
        ("crates/core/model/Cargo.toml", manifest, 0),
        ("crates/core/model/Cargo.toml", "[package]\n", 4),
        ("crates/core/model/tests/x.rs", skip.as_str(), 1),
        ("crates/core/model/tests/x.rs", nameless, 1),
        (
            "crates/core/model/tests/x.rs",
            "//! A test.\nprintln!(\"skipped: {t}: {r}\");",
            0,
        ),
    ] {
        let wrong = source::check(&File::new(path, text));
        assert_eq!(wrong.len(), count, "{path}: {wrong:?}");
    }
}

#[test]
fn a_lost_ban_is_caught() {
    let mut files = files().unwrap();
    let core = files
        .iter_mut()
        .find(|file| file.path == "crates/core/clippy.toml")
        .unwrap();
    core.text = core.text.replace(
        "    { path = \"std::process::exit\"",
        "    # { path = \"std::process::exit\"",
    );
    files.push(File::new("crates/core/model/clippy.toml", ""));
    files.retain(|file| file.path != "crates/data/clippy.toml");
    assert_eq!(
        laws::check(&files),
        [
            "crates/core/clippy.toml: lost std::process::exit",
            "crates/data/clippy.toml: missing",
            "crates/core/model/clippy.toml: would replace its floor's law",
        ]
    );
}

#[test]
fn planted_gaps_in_documents_are_caught() {
    let readme = "<!-- command: demo -->\n```sh\nrun demo\n```\n<!-- command: test -->\n```sh\nrun test\n```\n";
    let whole = [
        File::new("README.md", readme),
        File::new("CHANGELOG.md", "## [Unreleased]\n"),
        File::new(
            "docs/index.md",
            "[a](a.md) [decisions](decisions/index.md)\n",
        ),
        File::new(
            "docs/a.md",
            "[up](../README.md#top) [out](https://example.invalid/x)\n",
        ),
        File::new("docs/decisions/index.md", "[1](0001-a.md)\n"),
        File::new("docs/decisions/0001-a.md", "# One\n"),
    ];
    assert_none(&docs::check(&whole));
    let commands = docs::commands(readme);
    assert_eq!(commands[1], ("test".to_owned(), "run test".to_owned()));
    for (path, text, wrong) in [
        ("README.md", "run demo", "README.md: marks the commands"),
        (
            "README.md",
            &readme.replace("run test", "run\ntest"),
            "README.md: marks the commands",
        ),
        ("CHANGELOG.md", "# Changes", "CHANGELOG.md: no section"),
        (
            "docs/index.md",
            "[decisions](decisions/index.md)",
            "docs/index.md: does not list a.md",
        ),
        (
            "docs/decisions/index.md",
            "",
            "docs/decisions/index.md: does not list 0001-a.md",
        ),
        (
            "docs/a.md",
            "[up](README.md)",
            "docs/a.md: README.md leads nowhere",
        ),
    ] {
        let mut files = whole.clone();
        files
            .iter_mut()
            .find(|file| file.path == path)
            .unwrap()
            .text = text.to_owned();
        let found = docs::check(&files);
        assert!(
            found.len() == 1 && found[0].starts_with(wrong),
            "{path}: {found:?}"
        );
    }
}
