//! What goes to standard output, and how it looks there.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For machines.
    Json,
    /// For machines, and files.
    Yaml,
}

/// Narrower than this nothing can be read: lines are left to the terminal to break.
const MIN_WIDTH: u16 = 60;

/// Writes a result. Whoever reads may have seen enough: a broken pipe is no error.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut end = text.to_owned();
    if !end.is_empty() && !end.ends_with('\n') {
        end.push('\n');
    }
    match out.write_all(end.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("writing to standard output"),
    }
}

/// Says something that is no result.
pub(crate) fn note(text: &str) {
    let _nobody_reads = writeln!(io::stderr(), "nsm: {text}");
}

/// A value of a stable shape.
pub(crate) fn structured(value: &impl Serialize, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Yaml => serde_saphyr::to_string(value).context("writing YAML"),
        Format::Json | Format::Table => serde_json::to_string_pretty(value).context("writing JSON"),
    }
}

/// How wide the terminal is; nothing where lines go elsewhere, which are never broken then.
pub(crate) fn width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns >= MIN_WIDTH)
}

/// Rows below their headings, in columns no wider than they must be.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(headings.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| match cell.as_str() {
            "" => "-".to_owned(),
            text => clean(text),
        }));
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt()
}

/// Between two columns.
const GAP: u16 = 2;

/// Names and labels come from others: what would steer the terminal is shown, not sent.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            cleaned.extend(letter.escape_default());
        } else {
            cleaned.push(letter);
        }
    }
    cleaned
}

/// How long from `now` to `then`, in its two largest units.
pub(crate) fn until(then: SystemTime, now: SystemTime) -> String {
    let Ok(left) = then.duration_since(now) else {
        return "expired".to_owned();
    };
    let seconds = left.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// A time as RFC 3339 has it, in whole seconds of UTC; empty for times that nobody means.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    // The year 9999 ends then: what is beyond cannot be written.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since <= LAST => humantime::format_rfc3339_seconds(time).to_string(),
        Ok(_) | Err(_) => String::new(),
    }
}

/// Bytes in the largest unit of a thousand that leaves a whole number before the point.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    UNITS.iter().find(|(unit, _)| count >= *unit).map_or_else(
        || format!("{count} B"),
        |(unit, name)| format!("{}.{} {name}", count / unit, count % unit / (unit / 10)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (591, "9m51s"),
            (3_600, "1h0m"),
            (11_100, "3h5m"),
            (190_000, "2d4h"),
        ] {
            assert_eq!(until(now + Duration::from_secs(seconds), now), expected);
        }
        assert_eq!(until(now - Duration::from_secs(1), now), "expired");
        assert_eq!(rfc3339(now), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(now + Duration::from_secs(1 << 40)), "");
    }

    #[test]
    fn sizes() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_250_000, "1.2 MB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = table(&["NAME"], &[vec!["a\u{1b}[2Jb\nc".to_owned()]], None);
        assert_eq!(text, "NAME\na\\u{1b}[2Jb\\nc");
    }
}
