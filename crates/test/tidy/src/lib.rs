//! The house rules as pure checks, and what `cargo xtask` needs: the README's commands, the count
//! of skipped tests and the check of the demo's report.
//!
//! Each rule is a table of data and a function from text to complaints; the tests feed it the
//! tracked files, and a planted breach beside them.

#![forbid(unsafe_code)]

pub mod docs;
pub mod floors;
pub mod laws;
pub mod report;
pub mod skips;
pub mod source;
pub mod tree;
pub mod words;

use std::io::Write;

/// Reports that the test `test` (its full path, such as `nsm_kernel::vxlan`) did not run for want
/// of `reason` (a feature of the machine). Prefer the macro [`skip!`], which knows the path.
///
/// The line goes to the process's own standard output, past the test runner's capture.
pub fn report_skip(test: &str, reason: &str) {
    // One write, so that two tests at once cannot mix their lines; a closed pipe is nobody's loss.
    let _closed =
        std::io::stdout().write_all(format!("\n{}\n", skips::line(test, reason)).as_bytes());
}

/// Ends the test in hand as skipped: prints the one line that `cargo xtask test` counts, returns.
///
/// `skip!("the kernel has no WireGuard")` names the test by its thread, as the test runner does.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        let thread = ::std::thread::current();
        let unit = ::std::module_path!().split("::").next().unwrap_or_default();
        let test = ::std::format!("{unit}::{}", thread.name().unwrap_or("main"));
        $crate::report_skip(&test, &::std::format!("{}", $reason));
        return;
    }};
}
