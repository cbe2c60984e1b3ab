//! Where elements stand in a list.

/// An element, what must stand before it, and what after; names that the list lacks do not count.
pub type Stands<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// Every rule that a list breaks, in words.
#[must_use]
pub fn misplaced(names: &[&str], rules: &[Stands<'_>]) -> Vec<String> {
    let at = |name: &str| names.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for (name, before, after) in rules {
        let Some(own) = at(name) else { continue };
        let late = before
            .iter()
            .filter(|other| at(other).is_some_and(|other| other > own));
        wrong.extend(late.map(|other| format!("{name} stands before {other}")));
        let early = after
            .iter()
            .filter(|other| at(other).is_some_and(|other| other < own));
        wrong.extend(early.map(|other| format!("{name} stands after {other}")));
    }
    wrong
}

/// What the shared elements' own pages say ("Where it stands").
pub const SHARED: &[Stands<'static>] = &[
    (
        "updatepath",
        &[],
        &[
            "updatetoken",
            "authorize",
            "begin",
            "timeout",
            "monitor",
            "recvfd",
            "connect",
        ],
    ),
    ("updatetoken", &["updatepath"], &["authorize"]),
    (
        "authorize",
        &["updatetoken"],
        &["begin", "timeout", "monitor", "recvfd", "connect"],
    ),
    (
        "neighbour",
        &["updatepath", "authorize"],
        &["begin", "recvfd"],
    ),
    (
        "begin",
        &["updatepath", "authorize"],
        &["timeout", "refresh", "heal", "monitor", "connect"],
    ),
    ("timeout", &["begin", "authorize"], &["monitor"]),
    ("monitor", &["begin", "timeout"], &["connect"]),
    ("clientinfo", &[], &["discoverforwarder"]),
    (
        "recvfd",
        &["authorize"],
        &["localbypass", "xconnect", "connect"],
    ),
    ("trimpath", &["updatepath"], &[]),
];
