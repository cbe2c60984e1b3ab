//! The story's voice: a line for each step, on standard output.

use std::io::Write as _;

/// Width of the column with what happened; the figure stands behind it.
const WIDTH: usize = 62;

/// A step begins: nothing but a headline.
pub(crate) fn chapter(text: &str) {
    line(&format!("\n{text}"));
}

/// What happened, and the figure that was measured.
pub(crate) fn step(what: &str, figure: &str) {
    line(&format!("  {what:<WIDTH$} {figure:>14}"));
}

/// A remark below a headline.
pub(crate) fn remark(text: &str) {
    line(&format!("  {text}"));
}

/// A picture, with air around it.
pub(crate) fn picture(rows: &[String]) {
    line("");
    for row in rows {
        line(&format!("    {row}"));
    }
    line("");
}

/// Flushed at once: the story is told as it happens. Whoever closed the pipe does not want it.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _nobody_reads = writeln!(out, "{text}").and_then(|()| out.flush());
}
