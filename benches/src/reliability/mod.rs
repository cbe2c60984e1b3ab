//! `reliability`: what users see when something dies. Real kernel, real processes, no root.
//!
//! `nsm-bench reliability [--quick] [--watch SECONDS] [--runs N] [ROW...]`: every row has a mesh of
//! its own, so that a fault of one is not the fault of the next; without ROW all of them.

mod drain;
mod endpoint;
mod link;
mod options;
mod pair;
mod restarts;
mod silence;

use options::Options;

use crate::figure::{self, Bound, Figure};
use crate::usage;

/// The name of this bench.
pub(crate) const NAME: &str = "reliability";

/// A row: its name, and what it measures.
type Row = (&'static str, fn(&Options) -> anyhow::Result<Vec<Figure>>);

const ROWS: &[Row] = &[
    ("registry", restarts::registry),
    ("manager-1", restarts::client_manager),
    ("manager-2", restarts::endpoint_manager),
    ("forwarder-1", restarts::client_forwarder),
    ("forwarder-2", restarts::endpoint_forwarder),
    ("ca", restarts::authority),
    ("everything", restarts::everything),
    ("endpoint-near", endpoint::near),
    ("endpoint-far", endpoint::far),
    ("link-near", link::near),
    ("link-far", link::far),
    ("silence", silence::datagrams),
    ("drain", drain::node),
];

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
    let options = Options::parse(args, &names)?;
    crate::enter_lab()?;
    let mut figures = Vec::new();
    for (name, row) in ROWS {
        if options.wanted(name) {
            figure::say(&format!("{name} (load {})", usage::load()));
            figures.extend(row(&options).unwrap_or_else(|error| failed(name, &error)));
        }
    }
    figure::print(&figures)
}

/// A row that could not be measured is a bound that is not met.
fn failed(name: &str, error: &anyhow::Error) -> Vec<Figure> {
    let text: Vec<String> = format!("{error:#}").lines().map(str::to_owned).collect();
    let what = format!("{name}: could not be measured");
    vec![Figure::new(what, 1.0, "", Bound::AtMost(0.0)).note(text.join(" | "))]
}
