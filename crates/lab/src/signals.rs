//! SIGINT and SIGTERM as a request to take a lab down.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::LabError;

/// The write end of the pipe that the handler wakes the watcher through; -1 before there is one.
static WAKE: AtomicI32 = AtomicI32::new(-1);
static RAISED: AtomicBool = AtomicBool::new(false);

type Action = Box<dyn FnOnce() + Send>;

/// Catches SIGINT and SIGTERM for the whole process, which then does not end by them: whoever
/// installs it ends it.
#[derive(Clone)]
pub struct Interrupt {
    actions: Arc<Mutex<Vec<Action>>>,
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt")
            .field("raised", &self.raised())
            .finish_non_exhaustive()
    }
}

impl Interrupt {
    /// Installs the handlers and the thread that runs the actions. Once a process.
    ///
    /// # Errors
    /// [`LabError::Invalid`] when it was installed before, [`LabError::System`] when the kernel
    /// refuses.
    pub fn install() -> Result<Self, LabError> {
        let failed = |e: io::Error| LabError::system("catch SIGINT and SIGTERM", e);
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| failed(e.into()))?;
        if WAKE
            .compare_exchange(-1, write.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            let reason = "its handlers are installed already; share the first one";
            return Err(LabError::Invalid {
                field: "Interrupt",
                value: "install".to_owned(),
                reason,
            });
        }
        let interrupt = Self {
            actions: Arc::default(),
        };
        let watcher = interrupt.clone();
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || watcher.watch(&read, write))
            .map_err(failed)?;
        for signal in [libc::SIGINT, libc::SIGTERM] {
            catch(signal).map_err(failed)?;
        }
        Ok(interrupt)
    }

    /// True once the process was asked to end.
    #[must_use]
    pub fn raised(&self) -> bool {
        RAISED.load(Ordering::SeqCst)
    }

    /// Runs `action` once when the process is asked to end; at once if it was already.
    pub fn on_raise(&self, action: impl FnOnce() + Send + 'static) {
        self.actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(action));
        if self.raised() {
            self.run();
        }
    }

    /// The write end is kept open here: the pipe never ends.
    fn watch(&self, read: &OwnedFd, _write: OwnedFd) {
        let mut byte = [0u8; 1];
        loop {
            match rustix::io::read(read, &mut byte[..]) {
                Ok(1) => self.run(),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn run(&self) {
        let actions =
            std::mem::take(&mut *self.actions.lock().unwrap_or_else(PoisonError::into_inner));
        actions.into_iter().for_each(|action| action());
    }
}

extern "C" fn handle(_signal: libc::c_int) {
    RAISED.store(true, Ordering::SeqCst);
    let byte = 1u8;
    // SAFETY: write(2) is async-signal-safe; the pointer is to one live byte; a full pipe or a bad
    // descriptor only fails.
    unsafe { libc::write(WAKE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

fn catch(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid value (empty mask, no flags).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised and its handler only touches atomics and write(2).
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
