//! A lab that stands in the background: who finds it, runs commands in its pods, and ends it.
//!
//! The process that holds the lab writes a [`State`] file; other processes of the same user read
//! it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::error::LabError;
use crate::lab::Lab;
use crate::sys;

/// How long a lab may take to come down when asked, before it is killed.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting process looks again.
const LOOK: Duration = Duration::from_millis(20);

/// A process as other processes find it: the number alone may belong to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

/// What the state file of a standing lab says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The lab's folder.
    pub root: PathBuf,
    /// The process that holds the lab.
    pub holder: Holder,
    /// The first process of each cell, by name.
    pub cells: BTreeMap<String, Holder>,
    /// More environment for commands that run in it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Holder {
    fn of(pid: u32) -> Result<Self, LabError> {
        let started =
            sys::started(pid).map_err(|e| LabError::system(format!("inspect process {pid}"), e))?;
        Ok(Self { pid, started })
    }

    /// True while this very process runs.
    #[must_use]
    pub fn runs(self) -> bool {
        sys::runs(self.pid) && sys::started(self.pid).ok() == Some(self.started)
    }

    /// A descriptor that stands for this very process.
    fn open(self) -> Option<std::os::fd::OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.runs().then_some(fd)
    }
}

impl State {
    /// Describes a lab held by this process, with these cells to be found by name.
    ///
    /// # Errors
    /// [`LabError::System`] when a process has just ended.
    pub fn of<'a>(lab: &Lab, cells: impl IntoIterator<Item = &'a Cell>) -> Result<Self, LabError> {
        let cells = cells
            .into_iter()
            .map(|cell| Ok((cell.name().to_owned(), Holder::of(cell.pid())?)));
        Ok(Self {
            root: lab.root().to_owned(),
            holder: Holder::of(std::process::id())?,
            cells: cells.collect::<Result<_, LabError>>()?,
            env: BTreeMap::new(),
        })
    }

    /// Writes the state file of the lab `name`, whole or not at all.
    ///
    /// # Errors
    /// [`LabError::Invalid`] when a lab of this name stands already; [`LabError::File`].
    pub fn save(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = path(name)?;
        make_own_folder(&path)?;
        check_own_folder(&path)?;
        if let Ok(other) = Self::load(name)
            && other.holder != self.holder
        {
            let reason = "a lab of this name stands already: `nsm lab down` first";
            return Err(LabError::Invalid {
                field: "lab",
                value: name.to_owned(),
                reason,
            });
        }
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| LabError::file("write", &path, io::Error::from(e)))?;
        let new = path.with_extension("new");
        fs::write(&new, text).map_err(|e| LabError::file("write", &new, e))?;
        fs::rename(&new, &path).map_err(|e| LabError::file("write", &path, e))?;
        Ok(path)
    }

    /// Finds the standing lab `name`.
    ///
    /// # Errors
    /// [`LabError::NotStanding`] when there is none or its process is gone; [`LabError::File`] when
    /// the file is damaged.
    pub fn load(name: &str) -> Result<Self, LabError> {
        let path = path(name)?;
        let missing = || LabError::NotStanding {
            name: name.to_owned(),
            path: path.clone(),
        };
        check_own_folder(&path)?;
        let text = fs::read(&path).map_err(|_| missing())?;
        let state: Self = serde_json::from_slice(&text)
            .map_err(|e| LabError::file("read", &path, io::Error::from(e)))?;
        if state.holder.runs() {
            Ok(state)
        } else {
            Err(missing())
        }
    }

    /// Runs a command in the namespaces of a cell, with this process's own terminal, and waits for
    /// it. The calling process is changed by it: call it from a process with a single thread that
    /// does nothing afterwards.
    ///
    /// # Errors
    /// [`LabError::Invalid`] for an unknown cell, [`LabError::Dead`] for one that has ended,
    /// [`LabError::System`].
    pub fn exec(&self, cell: &str, command: &[String]) -> Result<ExitStatus, LabError> {
        let invalid = |field, value: &str, reason| LabError::Invalid {
            field,
            value: value.to_owned(),
            reason,
        };
        let holder = self
            .cells
            .get(cell)
            .ok_or_else(|| invalid("pod", cell, "the lab has no such pod or node"))?;
        let (program, args) = command
            .split_first()
            .ok_or_else(|| invalid("command", "", "is missing"))?;
        let process = holder.open().ok_or_else(|| LabError::Dead {
            cell: cell.to_owned(),
        })?;
        let mut kinds = ThreadNameSpaceType::NETWORK
            | ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::PROCESS_ID
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
        // Entering the user namespace one is in already is refused (setns(2)).
        if sys::inode_of(holder.pid, "user").ok() != sys::inode("/proc/self/ns/user").ok() {
            kinds |= ThreadNameSpaceType::USER;
        }
        let failed = |e: io::Error| LabError::system(format!("run {program} in {cell}"), e);
        move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&process), kinds)
            .map_err(|e| failed(e.into()))?;
        Command::new(program)
            .args(args)
            .envs(&self.env)
            .current_dir("/")
            .status()
            .map_err(failed)
    }

    /// Asks the lab to come down (SIGTERM), kills it if it does not, and removes its files.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when even a killed process stays; [`LabError::File`] when files cannot
    /// be removed.
    pub fn down(self, name: &str) -> Result<(), LabError> {
        for (signal, timeout) in [(Signal::TERM, DOWN_TIMEOUT), (Signal::KILL, DOWN_TIMEOUT)] {
            if let Some(process) = self.holder.open() {
                // It may end by itself in this moment.
                let _ = pidfd_send_signal(&process, signal);
                wait_gone(self.holder, timeout);
            }
        }
        if self.holder.runs() {
            let what = format!("end of process {}", self.holder.pid);
            return Err(LabError::Timeout {
                what,
                milliseconds: DOWN_TIMEOUT.as_millis(),
            });
        }
        Self::forget(name)?;
        remove(&self.root, |path| fs::remove_dir_all(path))
    }

    /// Removes the state file, and the folder it was in if that was made for it. The holder calls
    /// it when it ends by itself.
    ///
    /// # Errors
    /// [`LabError::File`] when the file cannot be removed.
    pub fn forget(name: &str) -> Result<(), LabError> {
        remove(&path(name)?, |path| fs::remove_file(path))?;
        // What a lab that failed wrote stays for who asks why.
        let log = path(name)?.with_extension("log");
        if fs::metadata(&log).is_ok_and(|found| found.len() == 0) {
            remove(&log, |path| fs::remove_file(path))?;
        }
        // Other labs' files keep it.
        let _ = fs::remove_dir(own_folder());
        Ok(())
    }
}

/// Starts our own binary with `args` in a session of its own, output to `log`, and returns when it
/// has saved the state of the lab `name` ([`State::save`]).
///
/// # Errors
/// [`LabError::Refused`] with the last line of its log when it ends before; [`LabError::Timeout`].
pub fn detach(
    name: &str,
    args: &[String],
    log: &Path,
    timeout: Duration,
) -> Result<State, LabError> {
    let failed = |e| LabError::system("start the lab's process", e);
    let file = File::create(log).map_err(|e| LabError::file("create the log", log, e))?;
    let errors = file.try_clone().map_err(failed)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("nsm")
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + timeout;
    loop {
        if let Ok(state) = State::load(name)
            && state.holder.pid == child.id()
        {
            return Ok(state);
        }
        if let Some(status) = child.try_wait().map_err(failed)? {
            let text = fs::read_to_string(log).unwrap_or_default();
            let last = text.lines().next_back().unwrap_or("it wrote nothing");
            let message = format!(
                "its process ended ({status}): {last}; see {}",
                log.display()
            );
            return Err(LabError::Refused {
                cell: name.to_owned(),
                message,
            });
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(LabError::Timeout {
                what: format!("lab {name}"),
                milliseconds: timeout.as_millis(),
            });
        }
        std::thread::sleep(LOOK);
    }
}

/// The state file of the lab `name`: in `$XDG_RUNTIME_DIR`, else in a folder of this user's own
/// under /tmp.
fn path(name: &str) -> Result<PathBuf, LabError> {
    crate::lab::check_name(name)?;
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if Path::new(&folder).is_dir() => PathBuf::from(folder),
        _ => own_folder(),
    };
    Ok(folder.join(format!("nsm-lab-{name}.json")))
}

/// Where the process that holds the lab `name` writes what goes wrong; its folder is made.
///
/// # Errors
/// [`LabError::Invalid`] for a name that is none; [`LabError::File`].
pub fn log_path(name: &str) -> Result<PathBuf, LabError> {
    let path = path(name)?.with_extension("log");
    make_own_folder(&path)?;
    check_own_folder(&path)?;
    Ok(path)
}

/// Makes the folder that this path is in, if it is this user's own.
fn make_own_folder(path: &Path) -> Result<(), LabError> {
    if path.parent() != Some(&own_folder()) {
        return Ok(());
    }
    match fs::DirBuilder::new().mode(0o700).create(own_folder()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(LabError::file("create folder", own_folder(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn own_folder() -> PathBuf {
    let user = real_user(rustix::process::geteuid().as_raw());
    std::env::temp_dir().join(format!("nsm-{user}"))
}

/// Inside the lab's user namespace the process is user 0; the file is looked for by who it is
/// outside.
fn real_user(own: u32) -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first: Vec<u32> = map
        .split_whitespace()
        .take(3)
        .filter_map(|field| field.parse().ok())
        .collect();
    match first[..] {
        [inside, outside, 1] if inside == own => outside,
        _ => own,
    }
}

/// Another user's folder of this name would let that user say which processes are ours.
fn check_own_folder(path: &Path) -> Result<(), LabError> {
    let folder = own_folder();
    if path.parent() != Some(&folder) || !folder.exists() {
        return Ok(());
    }
    let metadata =
        fs::symlink_metadata(&folder).map_err(|e| LabError::file("inspect", &folder, e))?;
    if metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o077 == 0
    {
        return Ok(());
    }
    let reason = "must be a folder of this user's own with mode 0700: remove it";
    Err(LabError::Invalid {
        field: "folder",
        value: folder.display().to_string(),
        reason,
    })
}

fn wait_gone(holder: Holder, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while holder.runs() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}

fn remove(path: &Path, how: impl Fn(&Path) -> io::Result<()>) -> Result<(), LabError> {
    match how(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::file("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
