//! The documents: the README's two commands, indexes that are whole, links that lead somewhere.

use std::collections::BTreeSet;

use crate::tree::File;

/// The commands that the README marks, in its order.
pub const COMMANDS: &[&str] = &["demo", "test"];

/// A command stands in the fence after a line `<!-- command: NAME -->`, one line long.
const MARK: &str = "<!-- command: ";

/// The README's marked commands as (name, command line).
#[must_use]
pub fn commands(readme: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = readme.lines().collect();
    let after = |at: usize, offset: usize| lines.get(at + offset).copied().unwrap_or_default();
    (0..lines.len())
        .filter_map(|at| {
            let name = lines[at].strip_prefix(MARK)?.strip_suffix(" -->")?;
            let whole = after(at, 1).starts_with("```") && after(at, 3) == "```";
            whole.then(|| (name.to_owned(), after(at, 2).to_owned()))
        })
        .collect()
}

/// Everything that is wrong with the documents as a whole.
#[must_use]
pub fn check(files: &[File]) -> Vec<String> {
    let mut wrong = readme(files);
    wrong.extend(changelog(files));
    wrong.extend(index(files, "docs/decisions/", "docs/decisions/index.md"));
    wrong.extend(index(files, "docs/", "docs/index.md"));
    wrong.extend(links(files));
    wrong
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    files
        .iter()
        .find(|file| file.path == path)
        .map_or("", |file| &file.text)
}

fn readme(files: &[File]) -> Vec<String> {
    let text = text(files, "README.md");
    let found = commands(text);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    if names == COMMANDS && text.matches(MARK).count() == COMMANDS.len() {
        return Vec::new();
    }
    vec![format!(
        "README.md: marks the commands {names:?}, not {COMMANDS:?}, each one line in a fence"
    )]
}

fn changelog(files: &[File]) -> Option<String> {
    let has = text(files, "CHANGELOG.md")
        .lines()
        .any(|line| line == "## [Unreleased]");
    (!has).then(|| "CHANGELOG.md: no section ## [Unreleased]".to_owned())
}

/// Every page of a folder is linked from its index.
fn index(files: &[File], folder: &str, index: &str) -> Vec<String> {
    let listed = text(files, index);
    files
        .iter()
        .filter_map(|file| file.path.strip_prefix(folder))
        .filter(|page| {
            let own = format!("{folder}{page}") == index;
            page.ends_with(".md")
                && !page.contains('/')
                && !own
                && !listed.contains(&format!("({page})"))
        })
        .map(|page| format!("{index}: does not list {page}"))
        .collect()
}

/// Links to files of the tree that are not there.
fn links(files: &[File]) -> Vec<String> {
    let mut known = BTreeSet::new();
    for file in files {
        let parts: Vec<&str> = file.path.split('/').collect();
        known.extend((1..=parts.len()).map(|count| parts[..count].join("/")));
    }
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, _) in file.text.match_indices("](") {
            let target = file.text[at + 2..].split(')').next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://") || target.contains(' ');
            if !outside && !known.contains(&resolve(&file.path, target)) {
                wrong.push(format!("{}: {target} leads nowhere", file.path));
            }
        }
    }
    wrong
}

/// `target` as seen from the page `from`, below the root.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}
