//! The shape of source files and manifests.

use crate::tree::File;

/// The longest production file in lines: beyond it a reader loses the noun the file is about.
pub const FILE_LINES_MAX: usize = 400;

/// The longest comment line: what two panes side by side show.
pub const COMMENT_COLUMNS_MAX: usize = 100;

/// Production files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Crates whose root need not forbid unsafe code, by the start of their path.
const UNSAFE: &[(&str, &str)] = &[
    (
        "crates/data/",
        "system calls; each block carries its SAFETY argument",
    ),
    (
        "crates/lab/",
        "namespaces are entered between fork and exec",
    ),
];

/// Where chain elements live: their module doc says where in a list they stand.
const ELEMENTS: &[&str] = &["/src/elements/", "crates/control/chain/src/begin.rs"];

/// Everything that is wrong with one file.
#[must_use]
pub fn check(file: &File) -> Vec<String> {
    let mut wrong = Vec::new();
    if file.is_rust() {
        wrong.extend(length(file));
        wrong.extend(comments(file));
        wrong.extend(module_doc(file));
        wrong.extend(crate_root(file));
        wrong.extend(element(file));
        wrong.extend(skips(file));
    }
    if file.path.starts_with("crates/") && file.path.ends_with("/Cargo.toml") {
        wrong.extend(manifest(file));
    }
    wrong
}

fn length(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    let excepted = LONG.iter().any(|(path, _)| *path == file.path);
    (file.is_production() && lines > FILE_LINES_MAX && !excepted)
        .then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path))
}

fn comments(file: &File) -> Vec<String> {
    (1..)
        .zip(file.text.lines())
        .filter(|(_, line)| {
            // A link cannot be broken in two.
            line.trim_start().starts_with("//")
                && line.chars().count() > COMMENT_COLUMNS_MAX
                && !line.contains("://")
        })
        .map(|(number, _)| {
            format!(
                "{}:{number}: comment beyond column {COMMENT_COLUMNS_MAX}",
                file.path
            )
        })
        .collect()
}

fn module_doc(file: &File) -> Option<String> {
    (!file.text.starts_with("//!"))
        .then(|| format!("{}: does not start with a module doc", file.path))
}

fn crate_root(file: &File) -> Option<String> {
    let root = file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs");
    let excepted = UNSAFE
        .iter()
        .any(|(folder, _)| file.path.starts_with(folder));
    let forbids = file
        .text
        .lines()
        .any(|line| line == "#![forbid(unsafe_code)]");
    (root && !excepted && !forbids).then(|| format!("{}: no #![forbid(unsafe_code)]", file.path))
}

fn element(file: &File) -> Option<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let is_element = file.path.starts_with("crates/control/")
        && file.is_production()
        && name != "mod.rs"
        && ELEMENTS.iter().any(|place| file.path.contains(place));
    let doc: String = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    (is_element && !doc.contains("Where it stands"))
        .then(|| format!("{}: an element's doc says \"Where it stands\"", file.path))
}

/// A skip that is spelled otherwise would not be counted.
fn skips(file: &File) -> Vec<String> {
    if file.path.starts_with("crates/test/tidy/") {
        return Vec::new();
    }
    let text = if file.is_production() {
        &file.text[file.production_text().len()..]
    } else {
        &file.text
    };
    text.match_indices('"')
        .filter_map(|(at, _)| text[at + 1..].split('"').next())
        .filter(|literal| {
            let lower = literal.to_lowercase();
            let whole = literal
                .strip_prefix("skipped: ")
                .is_some_and(|rest| rest.is_empty() || rest.contains(": "));
            lower.starts_with("skipping")
                || lower.starts_with("skip:")
                || (lower.starts_with("skipped") && !whole)
        })
        .map(|literal| {
            let path = &file.path;
            format!("{path}: \"{literal}\" is not `skipped: TEST: REASON`: use nsm_tidy::skip!")
        })
        .collect()
}

fn manifest(file: &File) -> Vec<String> {
    [
        ("license.workspace = true", "no licence field"),
        (
            "publish.workspace = true",
            "does not take `publish` from the workspace",
        ),
        (
            "[lints]\nworkspace = true",
            "does not take the lints of the workspace",
        ),
        ("description = ", "no description"),
    ]
    .iter()
    .filter(|(line, _)| !file.text.contains(line))
    .map(|(_, why)| format!("{}: {why}", file.path))
    .collect()
}
