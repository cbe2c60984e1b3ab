//! Every role's wall clock is set back a day, and forth again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nsm_lab::mesh::MeshConfig;

use crate::{
    Group,
    restarts::{nothing_lost, pair},
    world::{Shape, World, count, end, says},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "clock",
    mesh: || {
        build();
        set(0);
        let env = [
            ("LD_PRELOAD", file("clock.so").display().to_string()),
            ("TEST_CLOCK", file("clock.now").display().to_string()),
            ("NSM_MAX_TOKEN_LIFETIME", "8s".to_owned()),
        ];
        Shape {
            nodes: &["node-1", "node-2"],
            config: MeshConfig {
                env: env.map(|(key, value)| (key.to_owned(), value)).into(),
                ..MeshConfig::default()
            },
        }
    },
    rows: &[("set back a day", set_back)],
};

/// Adds to the wall clock what a file says, as seconds in native order.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *more;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *seen = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
        if (seen != MAP_FAILED) more = seen;
        close(fd);
    }
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = real ? real(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (!done && clock == CLOCK_REALTIME && more) now->tv_sec += *more;
    return done;
}
"#;

/// Where every cell sees it: their /tmp is their own.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

fn build() {
    let (source, built) = (file("clock.c"), file("clock.so"));
    fs::write(&source, SHIM).unwrap();
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&built, &source])
        .status();
    assert!(
        done.unwrap().success(),
        "the C compiler that building needs"
    );
}

fn set(seconds: i64) {
    let path = file("clock.now");
    let options = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    std::os::unix::fs::FileExt::write_all_at(&options.unwrap(), &seconds.to_ne_bytes(), 0).unwrap();
}

const DAY: i64 = 24 * 60 * 60;
/// Three leases.
const HELD: Duration = Duration::from_secs(24);

fn set_back(world: &World) {
    let pairs = [pair(world, "c-near", 0), pair(world, "c-far", 1)];
    let marks: Vec<_> = pairs.iter().map(|pair| pair.flow.now()).collect();
    set(-DAY);
    std::thread::sleep(HELD);
    // To somebody new every certificate begins in the future.
    let new = world.asking(0, "c-new", "kernel://c-far/nsm-1", &[]);
    let told = world.complaint(&new);
    says(
        &told,
        &["its SVID is valid from", "set the clocks of both machines"],
    );
    new.process.signal(9).unwrap();
    new.pod.kill();
    set(0);
    end(world.client(0, "c-later", "kernel://c-far/nsm-1", &[]));
    for (pair, mark) in pairs.iter().zip(marks) {
        nothing_lost(&pair.flow, mark);
        assert_eq!(count(&pair.client.log, "healed"), 0);
    }
    pairs.into_iter().for_each(crate::restarts::Pair::end);
    for name in ["clock.c", "clock.so", "clock.now"] {
        let _gone = fs::remove_file(file(name));
    }
}
