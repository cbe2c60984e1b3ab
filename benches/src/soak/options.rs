//! What the soak is told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Clients, and how often each sends a packet.
const CLIENTS: usize = 60;
const INTERVAL: Duration = Duration::from_millis(50);
/// Leases: refreshes fall due throughout, a role that is away is missed.
const LEASE: Duration = Duration::from_secs(30);
const MINUTES: u64 = 3;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub minutes: u64,
    pub seed: u64,
    pub clients: usize,
    pub interval: Duration,
    pub lease: Duration,
    /// Where report and drawing are written.
    pub out: PathBuf,
}

impl Options {
    /// `seed` is what is taken if none is given.
    pub(crate) fn parse(args: &[String], seed: u64) -> anyhow::Result<Self> {
        let mut options = Self {
            minutes: MINUTES,
            seed,
            clients: CLIENTS,
            interval: INTERVAL,
            lease: LEASE,
            out: PathBuf::from("soak"),
        };
        for pair in args.chunks(2) {
            let [flag, value] = pair else {
                bail!("{:?} has no value", pair[0]);
            };
            let number = || -> anyhow::Result<u64> {
                value
                    .parse()
                    .with_context(|| format!("{flag} {value:?}: must be a number"))
            };
            match flag.as_str() {
                "--minutes" => options.minutes = number()?.max(1),
                "--seed" => options.seed = number()?,
                "--clients" => options.clients = usize::try_from(number()?)?.max(1),
                "--out" => options.out = PathBuf::from(value),
                other => bail!("no {other:?}; there are --minutes, --seed, --clients, --out"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse = |text: &str| {
            let args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Options::parse(&args, 9)
                .map(|one| (one.minutes, one.seed, one.clients))
                .map_err(|error| format!("{error:#}"))
        };
        let none = "no \"--fast\"; there are --minutes, --seed, --clients, --out";
        let rows = [
            ("", Ok((3, 9, 60))),
            (
                "--minutes 60 --seed 5 --clients 12 --out x",
                Ok((60, 5, 12)),
            ),
            ("--minutes", Err("\"--minutes\" has no value".to_owned())),
            ("--fast 1", Err(none.to_owned())),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
