//! The story's voice: a line for each step, on standard output.

use std::io::Write as _;

/// Widths of what happened and of its figure: together with the margin 80 columns.
const WHAT: usize = 54;
const FIGURE: usize = 23;

/// A step begins: nothing but a headline.
pub(crate) fn chapter(text: &str) {
    line(&format!("\n{text}"));
}

/// What happened, and the figure that was measured.
pub(crate) fn step(what: &str, figure: &str) {
    let text = format!("  {what:<WHAT$} {figure:>FIGURE$}");
    line(text.trim_end());
}

/// A remark below a headline.
pub(crate) fn remark(text: &str) {
    line(&format!("  {text}"));
}

/// A picture, with air above it.
pub(crate) fn picture(rows: &[String]) {
    line("");
    for row in rows {
        line(&format!("    {row}"));
    }
}

/// Flushed at once: the story is told as it happens. Whoever closed the pipe does not want it.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _nobody_reads = writeln!(out, "{text}").and_then(|()| out.flush());
}
