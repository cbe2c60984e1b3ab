//! The clippy files: the nearest one replaces the outer one, so each must hold the common bans.

use crate::tree::File;

/// A clippy file and the lines that it must keep.
const LAWS: &[(&str, &[&str])] = &[
    ("clippy.toml", &["too-many-lines-threshold = 70"]),
    (
        "crates/core/clippy.toml",
        &[
            "too-many-lines-threshold = 70",
            "std::process::exit",
            "std::process::Command::new",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "std::env::var",
            "std::fs::read",
            "std::thread::spawn",
            "std::net::TcpStream::connect",
            "std::collections::HashMap",
            "std::collections::HashSet",
        ],
    ),
    (
        "crates/data/clippy.toml",
        &[
            "too-many-lines-threshold = 70",
            "std::process::exit",
            "std::process::Command::new",
            "std::env::var",
            "std::sync::mpsc::channel",
        ],
    ),
    (
        "crates/control/clippy.toml",
        &[
            "too-many-lines-threshold = 70",
            "std::process::exit",
            "std::process::Command::new",
            "tokio::process::Command::new",
            "std::env::var",
            "tokio::spawn",
            "tokio::sync::mpsc::unbounded_channel",
        ],
    ),
];

/// Bans that a floor lost, floors without a file, and files where none belongs.
#[must_use]
pub fn check(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, lines) in LAWS {
        let Some(file) = files.iter().find(|file| file.path == *path) else {
            wrong.push(format!("{path}: missing"));
            continue;
        };
        let lost = lines.iter().filter(|line| !holds(&file.text, line));
        wrong.extend(lost.map(|line| format!("{path}: lost {line}")));
    }
    let stray = files.iter().filter(|file| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        (name == "clippy.toml" || name == ".clippy.toml")
            && LAWS.iter().all(|(path, _)| *path != file.path)
    });
    wrong.extend(stray.map(|file| format!("{}: would replace its floor's law", file.path)));
    wrong
}

/// A setting stands on a line of its own, a ban as a quoted path; neither in a comment.
fn holds(text: &str, wanted: &str) -> bool {
    let quoted = format!("\"{wanted}\"");
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .any(|line| line == wanted || line.contains(&quoted))
}
