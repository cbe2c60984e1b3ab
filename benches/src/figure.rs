//! Figures, their bounds, and how they are shown.

use std::io::Write as _;

/// What was promised of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing: shown beside a promise.
    Beside,
}

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    measured: f64,
    unit: &'static str,
    bound: Bound,
    note: String,
}

impl Figure {
    pub(crate) fn new(
        what: impl Into<String>,
        measured: f64,
        unit: &'static str,
        bound: Bound,
    ) -> Self {
        Self {
            what: what.into(),
            measured,
            unit,
            bound,
            note: String::new(),
        }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        let note = note.into();
        if !self.note.is_empty() && !note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(&note);
        self
    }

    fn met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.measured <= bound,
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::Beside => true,
        }
    }

    fn line(&self) -> String {
        let (bound, verdict) = match self.bound {
            Bound::AtMost(bound) => (format!("<= {bound}"), self.verdict()),
            Bound::AtLeast(bound) => (format!(">= {bound}"), self.verdict()),
            Bound::Beside => (String::new(), ""),
        };
        format!(
            "{:<56} {:>9} {:<5} {:<8} {:<7} {}",
            self.what,
            number(self.measured),
            self.unit,
            bound,
            verdict,
            self.note
        )
    }

    fn verdict(&self) -> &'static str {
        if self.met() { "met" } else { "MISSED" }
    }
}

/// Whole numbers as they are, others to three digits behind the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

/// A line for whoever started the benches.
pub(crate) fn say(line: &str) {
    // Who closed the output does not want to know.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// All figures, and what falls short: which is an error.
///
/// # Errors
/// What falls short.
pub(crate) fn print(figures: &[Figure]) -> anyhow::Result<()> {
    say("");
    for figure in figures {
        say(figure.line().trim_end());
    }
    let missed: Vec<_> = figures
        .iter()
        .filter(|figure| !figure.met())
        .map(|figure| figure.what.as_str())
        .collect();
    say("");
    match missed.as_slice() {
        [] => say("Every bound is met."),
        _ => anyhow::bail!("falls short: {}", missed.join("; ")),
    }
    Ok(())
}

/// The value below which this share (0 to 1) of the sorted values lies; 0 of none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "places in a list of some hundreds"
    )]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// What surrounds a median, for a note.
pub(crate) fn spread(values: &[f64]) -> String {
    format!(
        "min {:.2}, p90 {:.2}, p99 {:.2}, max {:.2}, n {}",
        percentile(values, 0.0),
        percentile(values, 0.9),
        percentile(values, 0.99),
        percentile(values, 1.0),
        values.len()
    )
}
