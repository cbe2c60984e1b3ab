//! What happened, in order: kept as a hash, which two runs of one seed share, and as lines where
//! somebody wants to read them.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

use crate::process;

/// FNV-1a, 64 bits: the hash need not withstand anybody.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// How many of the last lines are kept for whoever wants to know how a violation came about.
const TAIL: usize = 40;

thread_local! {
    /// When the run of this thread began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What the roles themselves say is shown as well, each line with the run's time and its process.
pub fn show_roles() {
    let shown = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_timer(Stamp)
        .with_ansi(false)
        .with_level(false)
        .with_target(false)
        .with_writer(std::io::stderr);
    shown.init();
}

struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let at = BEGAN.get().map(|began| began.elapsed()).unwrap_or_default();
        let process = process::current();
        let name = process.as_ref().map_or("-", |process| process.name());
        write!(
            w,
            "{:>4}.{:03}     {name}:",
            at.as_secs(),
            at.subsec_millis()
        )
    }
}

/// The log of one run; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Log(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    began: Instant,
    hash: u64,
    lines: u64,
    shown: bool,
    line: String,
    tail: std::collections::VecDeque<String>,
}

impl Log {
    /// An empty log; `shown`: its lines go to standard error as well.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        let began = Instant::now();
        BEGAN.set(Some(began));
        Self(Arc::new(Mutex::new(State {
            began,
            hash: FNV_OFFSET,
            lines: 0,
            shown,
            line: String::new(),
            tail: std::collections::VecDeque::new(),
        })))
    }

    /// One more line.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = std::mem::take(&mut state.line);
        line.clear();
        let at = state.began.elapsed();
        let _never_fails = write!(line, "{:>4}.{:03} {what}", at.as_secs(), at.subsec_millis());
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        state.lines += 1;
        if state.shown {
            let _closed = writeln!(std::io::stderr(), "{line}");
        }
        state.line = line;
    }

    /// As [`Log::note`], of something that matters: kept for the report of a violation.
    pub fn mark(&self, what: fmt::Arguments<'_>) {
        self.note(what);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state.line.clone();
        state.tail.push_back(line);
        if state.tail.len() > TAIL {
            state.tail.pop_front();
        }
    }

    /// The hash of all lines, and how many they are.
    #[must_use]
    pub fn hash(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.hash, state.lines)
    }

    /// The last lines that mattered.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.tail.iter().cloned().collect()
    }
}
