//! Cases of [`super`]: a table for each rule of `path`.

use super::*;

/// A path as text: `name:id` segments, the one at the index in brackets.
fn path_of(text: &str) -> Path {
    let mut path = Path::default();
    for (i, word) in text.split_whitespace().enumerate() {
        let bare = word.trim_start_matches('[').trim_end_matches(']');
        if bare != word {
            path.index = u32::try_from(i).unwrap();
        }
        let (name, id) = bare.split_once(':').unwrap();
        path.path_segments.push(segment(name, id));
    }
    path
}

fn text_of(path: &Path) -> String {
    let word = |(i, s): (usize, &PathSegment)| {
        let bare = format!("{}:{}", s.name, s.id);
        if i == path.index as usize {
            format!("[{bare}]")
        } else {
            bare
        }
    };
    path.path_segments
        .iter()
        .enumerate()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// rule | connection.id | path before | own name | path after | id and index to give back
const RULES: &str = "\
0 keeps the id            | c1 |                        | nsc | [nsc:c1]             | c1 0
0 makes an id             |    |                        | nsc | [nsc:d()]            | d() 0
1 same name stays         | c1 | [nsc:c1]               | nsc | [nsc:c1]             | c1 0
1 takes the segment's id  | x  | [nsc:c1] m:1           | nsc | [nsc:c1] m:1         | c1 0
2.1 another name          | c1 | [nsc:c1] old:1 f:2     | m   | nsc:c1 [m:d(c1)] f:2 | c1 0
2.2 appends               | c1 | [nsc:c1]               | m   | nsc:c1 [m:d(c1)]     | c1 0
2.2 in the middle         | 1  | nsc:c1 [m:1]           | f   | nsc:c1 m:1 [f:d(1)]  | 1 1
2.3 keeps ours            | c1 | [nsc:c1] m:d(c1) f:2   | m   | nsc:c1 [m:d(c1)] f:2 | c1 0
2.3 replaces a forged id  | c1 | [nsc:c1] m:evil        | m   | nsc:c1 [m:d(c1)]     | c1 0";

#[test]
fn every_rule() {
    for row in RULES.lines() {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [rule, id, before, own, after, back] = cells[..] else {
            panic!("{row}");
        };
        let mut path = path_of(before);
        let step = advance(id, &mut path, own, |up| format!("d({up})")).unwrap();
        assert_eq!(text_of(&path), after, "{rule}");
        assert_eq!(step.index, path.index, "{rule}");
        assert_eq!(Some(&step.id), super::own(&path).map(|s| &s.id), "{rule}");

        let mut conn = Connection {
            id: id.to_owned(),
            path: buffa::MessageField::some(path),
            ..Default::default()
        };
        step.enter(&mut conn);
        assert_eq!((&conn.id, conn.path.index), (&step.id, step.index));
        step.rewind(&mut conn);
        assert_eq!(format!("{} {}", conn.id, conn.path.index), back, "{rule}");
    }
}

#[test]
fn refusals_leave_the_path_alone() {
    for (id, before, index, says) in [
        (
            "c1",
            "nsc:c1",
            1,
            "path.index is 1 but the path has 1 segments",
        ),
        ("c1", "nsc:c1", u32::MAX, "path.index is 4294967295"),
        (
            "c2",
            "nsc:c1",
            0,
            "connection.id is \"c2\" but segment 0 (nsc) has id \"c1\"",
        ),
    ] {
        let mut path = path_of(before);
        path.index = index;
        let kept = path.clone();
        let error = advance(id, &mut path, "m", |_| "new".to_owned())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(path, kept);
    }
}

#[test]
fn a_loop_ends_at_the_limit() {
    let mut path = Path::default();
    let mut id = "c".to_owned();
    for hop in 0..MAX_PATH_SEGMENTS {
        id = advance(&id, &mut path, &format!("hop-{hop}"), |up| format!("{up}."))
            .unwrap()
            .id;
    }
    let error = advance(&id, &mut path, "one-more", |_| "x".to_owned()).unwrap_err();
    assert_eq!(error, PathError::TooLong(MAX_PATH_SEGMENTS + 1));
    assert_eq!(path.path_segments.len(), MAX_PATH_SEGMENTS);
}

#[test]
fn a_retry_gives_the_same_path() {
    let mut first = path_of("[nsc:c1]");
    let derive = |up: &str| format!("d({up})");
    let step = advance("c1", &mut first, "m", derive).unwrap();
    advance(&step.id, &mut first, "f", derive).unwrap();
    let mut again = first.clone();
    again.index = 0;
    let step = advance("c1", &mut again, "m", derive).unwrap();
    advance(&step.id, &mut again, "f", derive).unwrap();
    assert_eq!(first, again);
}

#[test]
fn neighbours_and_trim() {
    let mut path = path_of("a:1 [b:2] c:3 d:4");
    let name = |s: Option<&PathSegment>| s.map(|s| s.name.clone());
    assert_eq!(name(own(&path)).as_deref(), Some("b"));
    assert_eq!(name(previous(&path)).as_deref(), Some("a"));
    assert_eq!(name(next(&path)).as_deref(), Some("c"));
    trim(&mut path);
    assert_eq!(text_of(&path), "a:1 [b:2]");
    assert_eq!(next(&path), None);
    assert_eq!(previous(&path_of("[a:1]")), None);
}
