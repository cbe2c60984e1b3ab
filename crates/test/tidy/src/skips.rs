//! Counting tests and skips in the output of `cargo test`.

use std::collections::{BTreeMap, BTreeSet};

/// How a skip line starts.
const MARK: &str = "skipped: ";

/// The line of one skip.
#[must_use]
pub fn line(test: &str, reason: &str) -> String {
    format!("{MARK}{test}: {}", reason.replace('\n', " "))
}

/// What a run of the tests came to, fed with its output line by line.
#[derive(Debug, Default)]
pub struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    skips: BTreeMap<String, String>,
    /// Tests that the runner counts as passed though they said that they were skipped.
    returned: BTreeSet<String>,
    /// Between `running N tests` and `test result:`; a test program of its own prints neither.
    runner: bool,
    malformed: Vec<String>,
    /// Within the output of tests that passed, which a reader does not want to see.
    quiet: bool,
}

// === impl Tally ===

impl Tally {
    /// Takes one line of output; true when a reader wants to see it.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.quiet = false;
            self.runner = false;
            self.result(rest);
            return true;
        }
        match line {
            "successes:" => self.quiet = true,
            "failures:" => self.quiet = false,
            _ if line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test") => {
                self.runner = true;
            }
            _ if !self.runner && line.starts_with("test ") => {
                self.passed += u64::from(line.ends_with(" ... ok"));
                self.failed += u64::from(line.ends_with(" ... FAILED"));
            }
            _ => {}
        }
        let is_skip = self.skip(line);
        is_skip || !self.quiet
    }

    /// `ok. 3 passed; 0 failed; 0 ignored; ...`
    fn result(&mut self, rest: &str) {
        let count = |word: &str| -> u64 {
            rest.split(['.', ';'])
                .filter_map(|part| part.trim().strip_suffix(word))
                .find_map(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }

    fn skip(&mut self, line: &str) -> bool {
        // With one test thread the runner has written `test name ... ` before it.
        let start = if line.starts_with("test ") {
            line.find(MARK)
        } else {
            line.starts_with(MARK).then_some(0)
        };
        let Some(start) = start else { return false };
        match line[start + MARK.len()..].split_once(": ") {
            Some((test, reason)) if !test.trim().is_empty() && !reason.trim().is_empty() => {
                self.skips
                    .insert(test.trim().to_owned(), reason.trim().to_owned());
                if self.runner {
                    self.returned.insert(test.trim().to_owned());
                }
            }
            _ => self.malformed.push(line.to_owned()),
        }
        true
    }

    /// Skips that `expected` does not list (a line `test: reason` each, `#` starts a comment).
    #[must_use]
    pub fn unexpected(&self, expected: &str) -> Vec<String> {
        let expected: BTreeSet<&str> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        self.skips
            .iter()
            .map(|(test, reason)| format!("{test}: {reason}"))
            .filter(|line| !expected.contains(line.as_str()))
            .collect()
    }

    /// What makes the run red by itself.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .malformed
            .iter()
            .map(|line| format!("a skip without test and reason: {line}"))
            .collect();
        if self.failed > 0 {
            faults.push(format!("{} tests failed", self.failed));
        }
        if self.passed == 0 {
            faults.push("no test ran".to_owned());
        }
        faults
    }

    /// The skips by reason, then `N passed, N failed, N skipped` on a line of its own. A skipped
    /// test returned early, so the runner counted it as passed; here it is not.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (test, reason) in &self.skips {
            reasons.entry(reason).or_default().push(test);
        }
        let mut text = String::new();
        for (reason, tests) in reasons {
            text.push_str(&format!("{} skipped, {reason}:\n", tests.len()));
            for test in tests {
                text.push_str(&format!("    {test}\n"));
            }
        }
        let passed = self.passed.saturating_sub(self.returned.len() as u64);
        let skipped = self.skips.len() as u64 + self.ignored;
        text.push_str(&format!(
            "{passed} passed, {} failed, {skipped} skipped\n",
            self.failed
        ));
        text
    }
}
