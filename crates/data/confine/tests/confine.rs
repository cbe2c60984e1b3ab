//! What a confined process can still do, and what not: each row in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::exit,
    reason = "a test program without the harness that would be allowed to"
)]

use std::{
    fs::{self, File},
    hint::black_box,
    io::{self, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Barrier,
    thread,
};

use nsm_confine::{ConfineError, Profile, Seccomp, confine};
use rustix::{
    net::{AddressFamily, SocketType, socket},
    thread::UnshareFlags,
};

/// A name, and what is tried.
type Row = (&'static str, fn(&Path));

const ROWS: &[Row] = &[
    ("all threads share one heap", |_| {
        go(Profile::Registry);
        let all = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let held = black_box(vec![1_u8; 10_000]);
                    all.wait();
                    all.wait();
                    drop(held);
                });
            }
            all.wait();
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            all.wait();
            assert_eq!(
                maps.lines().filter(|line| is_arena(line)).count(),
                0,
                "{maps}"
            );
        });
    }),
    ("what every role does is allowed", |folder| {
        go(Profile::Registry);
        let file = folder.join("file");
        let mut made = File::create(&file).unwrap();
        made.write_all(b"kept").unwrap();
        made.sync_all().unwrap();
        fs::rename(&file, folder.join("other")).unwrap();
        assert_eq!(fs::read(folder.join("other")).unwrap(), b"kept");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let path = folder.join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        ("localhost", 1).to_socket_addrs().unwrap();
        let thread = thread::Builder::new().name("one".to_owned());
        thread
            .spawn(|| fs::read_dir("/proc/self/task").unwrap().count())
            .unwrap()
            .join()
            .unwrap();
    }),
    ("another program is not started", |_| {
        go(Profile::Forwarder);
        let error = Command::new("/bin/true").status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
    }),
    ("threads inherit the filter", |_| {
        go(Profile::Manager);
        let tried = thread::spawn(|| denied(netlink()));
        tried.join().unwrap();
    }),
    ("no netlink but for those who need it", |_| {
        go(Profile::Client);
        denied(netlink());
    }),
    ("netlink for a passthrough endpoint", |_| {
        go(Profile::Passthrough);
        netlink().unwrap();
        denied(namespace(UnshareFlags::NEWNET));
    }),
    ("a forwarder makes network namespaces and no others", |_| {
        go(Profile::Forwarder);
        netlink().unwrap();
        // A user without rights has none to keep.
        let made = namespace(UnshareFlags::NEWNET);
        assert!(made.is_ok() || made.unwrap_err().raw_os_error() == Some(libc::EPERM));
        denied(namespace(UnshareFlags::NEWNS));
        denied(namespace(UnshareFlags::NEWUSER));
    }),
    ("memory is written or run, never both", |_| {
        go(Profile::Endpoint);
        denied(map(libc::PROT_WRITE | libc::PROT_EXEC));
        map(libc::PROT_READ | libc::PROT_WRITE).unwrap();
    }),
    ("without the filter the rest holds", |_| {
        let confined = confine(Profile::Registry, false).unwrap();
        assert_eq!(confined.seccomp, Seccomp::Off);
        netlink().unwrap();
        assert_eq!(status("Seccomp"), "0");
        dropped();
    }),
    ("not with a second thread", |_| {
        let (_hold, held) = std::sync::mpsc::sync_channel::<()>(1);
        let thread = thread::spawn(move || held.recv());
        let error = confine(Profile::Registry, true).unwrap_err();
        assert!(matches!(error, ConfineError::Threads(2)), "{error}");
        drop((_hold, thread));
    }),
    ("a process without rights confines itself as well", |_| {
        // As a user would be: the bounding set stays, and nothing can be gained from it.
        let nothing = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets {
            effective: nothing,
            permitted: nothing,
            inheritable: nothing,
        };
        rustix::thread::set_capabilities(None, sets).unwrap();
        let confined = confine(Profile::Forwarder, true).unwrap();
        assert!(confined.capabilities.bounding_kept);
        assert_eq!(confined.capabilities.missing.len(), 3);
        assert_eq!(status("CapPrm"), "0000000000000000");
        assert_eq!(status("NoNewPrivs"), "1");
    }),
];

/// Confines this process, which must be filtered then.
/// Enough for glibc to make them heaps of their own.
const THREADS: usize = 8;

/// glibc reserves 64 MiB for each heap but the first, and opens up little of it.
fn is_arena(line: &str) -> bool {
    let (range, rest) = line.split_once(' ').unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let address = |text| u64::from_str_radix(text, 16).unwrap();
    rest.starts_with("---p") && address(to) - address(from) > 48 << 20
}

fn go(profile: Profile) {
    let confined = confine(profile, true).unwrap();
    if let Seccomp::Absent(reason) = &confined.seccomp {
        println!("skipped: confine: no seccomp here: {reason}");
        std::process::exit(0);
    }
    assert_eq!(status("Seccomp"), "2");
    if profile.rights().is_empty() {
        dropped();
    }
}

/// No capability in any set.
fn dropped() {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(set), "0000000000000000", "{set}");
    }
    assert_eq!(status("NoNewPrivs"), "1");
}

fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn netlink() -> io::Result<()> {
    socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    Ok(())
}

fn namespace(kind: UnshareFlags) -> io::Result<()> {
    // SAFETY: descriptor tables stay shared.
    #[allow(unsafe_code, reason = "the call is unsafe for CLONE_FILES alone")]
    unsafe { rustix::thread::unshare_unsafe(kind) }?;
    Ok(())
}

fn map(protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the kernel's choice, never touched.
    #[allow(unsafe_code, reason = "memory maps are unsafe in general")]
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn denied(tried: io::Result<()>) {
    assert_eq!(tried.unwrap_err().raw_os_error(), Some(libc::ENOSYS));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, folder] = arguments.as_slice()
        && flag == "--row"
    {
        let (_, row) = ROWS.iter().find(|(known, _)| known == name).unwrap();
        row(Path::new(folder));
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (number, (name, _)) in (1..).zip(ROWS) {
        let own = format!("nsm-confine-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(own);
        fs::create_dir(&folder).unwrap();
        let mut row = Command::new("/proc/self/exe");
        row.args(["--row", name]).arg(&folder).stdin(Stdio::null());
        let ok = row.status().unwrap().success();
        fs::remove_dir_all(&folder).unwrap();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += usize::from(!ok);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
