//! What the reliability bench is told.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// Leases in rows that keep a role away: some of the longest waits between two attempts.
const LEASE: Duration = Duration::from_secs(15);
/// A role is kept down for so many leases, so that refreshes fall due and fail.
const LEASES_AWAY: u32 = 3;
/// How long packets are watched afterwards.
const WATCH: Duration = Duration::from_secs(300);
const WATCH_QUICK: Duration = Duration::from_secs(5);
/// How often a fault is made whose outage is a distribution.
const RUNS: usize = 50;
const RUNS_QUICK: usize = 5;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long packets are watched after a role is back.
    pub watch: Duration,
    /// How often an endpoint is killed, a link disturbed.
    pub runs: usize,
    /// A lease of connections and registrations.
    pub lease: Duration,
    rows: Vec<String>,
}

impl Options {
    pub(crate) fn parse(args: &[String], known: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            watch: WATCH,
            runs: RUNS,
            lease: LEASE,
            rows: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || -> anyhow::Result<u32> {
                let value = args.next().map_or("", String::as_str);
                let wrong = || format!("{arg} {value:?}: must be a number");
                value.parse().with_context(wrong)
            };
            match arg.as_str() {
                "--quick" => (options.watch, options.runs) = (WATCH_QUICK, RUNS_QUICK),
                "--watch" => options.watch = Duration::from_secs(number()?.into()),
                "--runs" => options.runs = number()?.max(1) as usize,
                row if known.contains(&row) => options.rows.push(row.to_owned()),
                other => bail!(
                    "no row {other:?}; there are --quick, --watch SECONDS, --runs N and {}",
                    known.join(", ")
                ),
            }
        }
        Ok(options)
    }

    pub(crate) fn wanted(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|one| one == row)
    }

    /// How long a role is kept down.
    pub(crate) fn away(&self) -> Duration {
        self.lease * LEASES_AWAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let known = ["ca", "silence"];
        let parse = |text: &str| {
            let args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Options::parse(&args, &known)
                .map(|o| {
                    (
                        o.watch.as_secs(),
                        o.runs,
                        o.wanted("ca"),
                        o.wanted("silence"),
                    )
                })
                .map_err(|error| format!("{error:#}"))
        };
        let all = "no row \"x\"; there are --quick, --watch SECONDS, --runs N and ca, silence";
        let rows = [
            ("", Ok((300, 50, true, true))),
            ("--quick silence", Ok((5, 5, false, true))),
            ("--quick --watch 7 --runs 0", Ok((7, 1, true, true))),
            ("x", Err(all.to_owned())),
            (
                "--runs",
                Err("--runs \"\": must be a number: cannot parse integer from empty string".into()),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
