//! Cases of [`super`]: a table for each rule of `entries`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

const YAML: &str = "
entries:
- {id: spiffe://td/any, selectors: {uid: 7}}
- {id: spiffe://td/app, selectors: {uid: 7, exe: /bin/app}}
- {id: spiffe://td/pod, selectors: {netns: 11, pidns: 12}}
- {id: spiffe://td/child, selectors: {uid: 7, exe: /bin/app, pid: 99}}
- {id: spiffe://td/app, selectors: {uid: 7, netns: 5}}
";

#[test]
fn the_most_specific_entry_wins() {
    let entries = Entries::parse(YAML, &domain()).unwrap();
    for (pid, uid, exe, netns, pidns, says) in [
        (1, 7, "/bin/sh", 1, 1, "spiffe://td/any"),
        (1, 7, "/bin/app", 1, 1, "spiffe://td/app"),
        (1, 7, "/bin/app", 5, 1, "spiffe://td/app"),
        (99, 7, "/bin/app", 1, 1, "spiffe://td/child"),
        (1, 8, "/bin/app", 11, 12, "spiffe://td/pod"),
        (1, 8, "/bin/app", 11, 13, "no entry matches"),
        (
            1,
            7,
            "/bin/app",
            11,
            12,
            "spiffe://td/app and spiffe://td/pod match with 2 selectors each; add a selector to one of them",
        ),
    ] {
        let facts = Facts {
            pid,
            uid,
            exe: exe.into(),
            netns,
            pidns,
        };
        let found = match entries.find(&facts) {
            Ok(id) => id.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, says, "{facts:?}");
    }
}

#[test]
fn refuses_what_it_does_not_understand() {
    for (yaml, says) in [
        ("", "malformed"),
        ("entries: 7", "malformed"),
        ("entries: [{id: spiffe://td/a}]", "selectors"),
        (
            "entries: [{id: spiffe://td/a, selectors: {}}]",
            "entry 1 (spiffe://td/a) has no selectors",
        ),
        ("entries: [{id: spiffe://td/a, selectors: {gid: 1}}]", "gid"),
        (
            "entries: [{id: spiffe://td/a, selectors: {uid: root}}]",
            "malformed",
        ),
        (
            "entries: [{id: spiffe://td/a, selectors: {uid: 1}, ttl: 5}]",
            "ttl",
        ),
        (
            "entries: [{id: http://td/a, selectors: {uid: 1}}]",
            "entry 1: id \"http://td/a\"",
        ),
        (
            "entries: [{id: spiffe://other/a, selectors: {uid: 1}}]",
            "its trust domain is not td",
        ),
    ] {
        let error = Entries::parse(yaml, &domain()).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} should say {says:?}");
    }
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("entries.yaml");
    assert!(
        EntrySource::file(&path, &domain())
            .unwrap_err()
            .to_string()
            .contains("entries.yaml")
    );
    fs::write(&path, YAML).unwrap();
    let source = EntrySource::file(&path, &domain()).unwrap();
    assert_eq!(source.current().0.len(), 5);
    fs::write(&path, "entries: []").unwrap();
    assert_eq!(source.current().0.len(), 0);
    fs::write(&path, "entries: [{id: spiffe://td/a, selectors: {uid: 1}}]").unwrap();
    assert_eq!(source.current().0.len(), 1);
    fs::write(&path, "entries: [oops").unwrap();
    assert_eq!(source.current().0.len(), 1);
    fs::write(&path, YAML).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(source.current().0.len(), 1);
    assert!(
        EntrySource::file(&path, &domain())
            .unwrap_err()
            .to_string()
            .contains("can be written by others")
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(source.current().0.len(), 1);
}
