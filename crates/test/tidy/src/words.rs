//! Words that have no place in the tree, as data. This file is the only one that may hold them.

use crate::tree::File;

/// Where the words stand as data.
const HERE: &str = "crates/test/tidy/src/words.rs";

/// A word, whether it is looked for in any case, and why it must go.
struct Word {
    text: &'static str,
    any_case: bool,
    why: &'static str,
}

const fn exact(text: &'static str, why: &'static str) -> Word {
    Word {
        text,
        any_case: false,
        why,
    }
}

const fn any(text: &'static str, why: &'static str) -> Word {
    Word {
        text,
        any_case: true,
        why,
    }
}

const UNFINISHED: &str = "finish it, or leave it out";
const MAKER: &str = "text speaks of the product, not of who makes it";
const MACHINE: &str = "a path or host of one machine";

/// A word that starts or ends with a letter counts only as a whole word.
const WORDS: &[Word] = &[
    exact("todo!(", UNFINISHED),
    exact("unimplemented!(", UNFINISHED),
    exact("TODO", UNFINISHED),
    exact("FIXME", UNFINISHED),
    exact("XXX", UNFINISHED),
    exact("HACK", UNFINISHED),
    exact(
        "#[ignore",
        "a test runs, or reports its skip with the reason",
    ),
    exact("dbg!(", UNFINISHED),
    any("language model", MAKER),
    any("ai-generated", MAKER),
    any("helper session", MAKER),
    any("this session", MAKER),
    any("co-authored-by", MAKER),
    exact("/work/", MACHINE),
    exact("/tmp/claude", MACHINE),
    exact("/root/.cargo", MACHINE),
    any("artifactory", MACHINE),
    any("crates.io:443", MACHINE),
    any("static.crates.io", MACHINE),
    any("index.crates.io", MACHINE),
    any("registry.npmjs.org", MACHINE),
    any("proxy.golang.org", MACHINE),
    any("deb.debian.org", MACHINE),
];

/// What the product does not do in its own code, where, and why.
const CALLS: &[(&str, &[&str], &str)] = &[
    (
        "process::Command",
        &[
            "crates/core/",
            "crates/data/",
            "crates/control/",
            "crates/nsm/",
        ],
        "nothing shells out: netlink, not ip; only the stage starts processes",
    ),
    (
        "process::exit",
        &[
            "crates/core/",
            "crates/data/",
            "crates/control/",
            "crates/lab/",
        ],
        "only the door exits",
    ),
];

/// Every forbidden word, as `path:line: word: why`.
#[must_use]
pub fn check(file: &File) -> Vec<String> {
    if file.path == HERE || file.path == "Cargo.lock" {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let lower = line.to_lowercase();
        for word in WORDS {
            if stands_in(if word.any_case { &lower } else { line }, word.text) {
                wrong.push(format!(
                    "{}:{number}: {}: {}",
                    file.path, word.text, word.why
                ));
            }
        }
    }
    if file.is_production() {
        wrong.extend(calls(file));
    }
    wrong
}

fn calls(file: &File) -> Vec<String> {
    CALLS
        .iter()
        .filter(|(call, folders, _)| {
            folders.iter().any(|folder| file.path.starts_with(folder))
                && file.production_text().contains(call)
        })
        .map(|(call, _, why)| format!("{}: {call}: {why}", file.path))
        .collect()
}

/// `word` stands in `line`, not as a part of a longer word.
fn stands_in(line: &str, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let inside = (letter(word.chars().next()) && letter(before))
            || (letter(word.chars().next_back()) && letter(after));
        !inside
    })
}
