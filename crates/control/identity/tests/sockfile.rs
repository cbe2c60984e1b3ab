//! Socket files: whose they are, who may connect, what is replaced.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use nsm_identity::sockfile::{Access, SocketFile};

const fn mode(mode: u32) -> Access {
    Access { mode, group: None }
}

#[test]
fn mode_and_group_are_those_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // A group that this process is a member of, whoever runs it.
    let own = fs::metadata(folder.path()).unwrap().gid();
    for (number, access) in [
        mode(0o666),
        mode(0o660),
        mode(0o600),
        Access {
            mode: 0o620,
            group: Some(own),
        },
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}/deep/nsm.sock"));
        let (listener, file) = SocketFile::bind(&path, &access).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, access.mode);
        assert_eq!(found.gid(), access.group.unwrap_or(own));
        let above = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(above.mode() & 0o022, 0, "nobody else writes beside it");
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }
}

#[test]
fn what_is_there_is_replaced_only_when_it_is_a_dead_socket_of_ours() {
    type Put = fn(&Path);
    let folder = tempfile::tempdir().unwrap();
    let put: [(&str, Put, Option<&str>); 6] = [
        ("nothing", |_| {}, None),
        (
            "a dead socket",
            |path| drop(UnixListener::bind(path).unwrap()),
            None,
        ),
        (
            "a file",
            |path| fs::write(path, "kept").unwrap(),
            Some("no socket"),
        ),
        (
            "a folder",
            |path| fs::create_dir(path).unwrap(),
            Some("no socket"),
        ),
        (
            "a link to a dead socket",
            |path| {
                let other = path.with_extension("other");
                drop(UnixListener::bind(&other).unwrap());
                symlink(other, path).unwrap();
            },
            Some("no socket"),
        ),
        (
            "somebody else's dead socket",
            |path| {
                drop(UnixListener::bind(path).unwrap());
                if chown(path, Some(4711), None).is_err() {
                    // Only root can give files away: take one away from ourselves instead.
                    fs::remove_file(path).unwrap();
                    fs::write(path, "no socket").unwrap();
                }
            },
            Some(if rustix::process::geteuid().is_root() {
                "belongs to user 4711"
            } else {
                "no socket"
            }),
        ),
    ];
    for (number, (what, put, refusal)) in put.into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.sock"));
        put(&path);
        let before = fs::symlink_metadata(&path).ok().map(|found| found.ino());
        match (SocketFile::bind(&path, &Access::default()), refusal) {
            (Ok(_), None) => {}
            (Err(error), Some(said)) => {
                assert!(error.to_string().contains(said), "{what}: {error}");
                let now = fs::symlink_metadata(&path).unwrap().ino();
                assert_eq!(Some(now), before, "{what} is as it was");
            }
            (bound, _) => panic!("{what}: {bound:?}"),
        }
    }
}

#[test]
fn a_listener_is_not_pushed_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nsm.sock");
    let first = SocketFile::bind(&path, &Access::default()).unwrap();
    let error = SocketFile::bind(&path, &Access::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    // Another process put its own there meanwhile: that one stays.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_ne!(mode, 0);
}
