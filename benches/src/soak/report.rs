//! What a soak showed, as data and as figures.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::census::Census;
use super::city::Life;
use super::drawing;
use super::fault::Fault;
use super::memory::{Memory, Slope};
use crate::figure::{Bound, Figure};

/// No connection is down for longer, milliseconds.
const DOWN: f64 = 1000.0;
/// Memory is flat if no process grows by more, kB a minute: a megabyte in an hour is 17.
const FLAT: f64 = 20.0;
/// Journals are files that grow in pages: this is one.
const PAGE: f64 = 4096.0;

/// See the module.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub seed: u64,
    pub minutes: u64,
    pub interval_ms: f64,
    pub lived_ms: f64,
    pub faults: Vec<Fault>,
    pub lives: Vec<Life>,
    /// Clients that did not flow again in time, and faults that could not be mended.
    pub stuck: Vec<String>,
    pub slopes: Vec<Slope>,
    pub memory: Memory,
    pub end: End,
}

/// What there was without clients, at the beginning and at the end.
#[derive(Debug, Serialize)]
pub(crate) struct End {
    pub before: Census,
    pub after: Census,
    pub rested_s: f64,
}

/// A client's outage, and what had happened last when it began.
struct Down<'a> {
    life: &'a Life,
    ms: f64,
    at_s: f64,
    after: Option<&'a Fault>,
}

impl Report {
    /// Writes report and drawing.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let report = folder.join("report.json");
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&report, text).with_context(|| report.display().to_string())?;
        let svg = folder.join("outages.svg");
        std::fs::write(&svg, drawing::draw(self)).with_context(|| svg.display().to_string())
    }

    /// What was promised, and what came of it.
    #[allow(clippy::cast_precision_loss, reason = "counts of one run")]
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let sent: u64 = self.lives.iter().map(|life| life.counted.sent).sum();
        let mut down = self.down();
        down.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let long = down.iter().filter(|one| one.ms > DOWN).count();
        let lost: u64 = self
            .lives
            .iter()
            .flat_map(|life| life.counted.outages.iter().map(|one| one.lost))
            .sum();
        let row = |what: &str, measured: f64, bound| {
            Figure::new(format!("soak: {what}"), measured, "", bound)
        };
        let zero = Bound::AtMost(0.0);
        let mut figures = vec![
            row("faults", self.faults.len() as f64, Bound::Beside)
                .note(format!("seed {}, {} minutes", self.seed, self.minutes)),
            row("packets sent", sent as f64, Bound::Beside),
            row("packets lost", lost as f64, Bound::Beside)
                .note(format!("in {} outages", down.len())),
            row("outages longer than 1 s", long as f64, zero),
            row(
                "clients or roles that stayed away",
                self.stuck.len() as f64,
                zero,
            )
            .note(self.stuck.first().cloned().unwrap_or_default()),
        ];
        for one in down.iter().take(5) {
            figures.push(one.figure());
        }
        figures.extend(self.leaks());
        figures
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of one run")]
    fn leaks(&self) -> Vec<Figure> {
        let End { before, after, .. } = &self.end;
        let more = |what: &str, was: usize, is: usize| {
            let what = format!("soak: {what} more than at the start");
            let grown = is as f64 - was as f64;
            Figure::new(what, grown, "", Bound::AtMost(0.0)).note(format!("{was} to {is}"))
        };
        let mut figures = vec![
            more("links", before.links, after.links),
            more("VNIs", before.vnis, after.vnis),
            more("addresses", before.addresses, after.addresses),
        ];
        let (mut threads, mut descriptors) = (Vec::new(), Vec::new());
        for (name, is) in &after.roles {
            if let Some(was) = before.roles.get(name) {
                threads.push((is.threads as f64 - was.threads as f64, name));
                descriptors.push((is.descriptors as f64 - was.descriptors as f64, name));
            }
        }
        for (what, grown) in [("threads", threads), ("descriptors", descriptors)] {
            let most = grown.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
            let (most, name) = most.map_or((0.0, ""), |(most, name)| (most, name.as_str()));
            let what = format!("soak: {what} of a process more than at the start");
            figures.push(Figure::new(what, most, "", Bound::AtMost(0.0)).note(name));
        }
        let bytes = after.journal_bytes() as f64 - before.journal_bytes() as f64;
        figures.push(
            Figure::new("soak: journals larger by", bytes, "B", Bound::AtMost(PAGE)).note(format!(
                "{} to {}",
                before.journal_bytes(),
                after.journal_bytes()
            )),
        );
        let followed = self.slopes.len() as f64;
        let what = "soak: processes that lived long enough to tell a slope";
        figures.push(Figure::new(what, followed, "", Bound::Beside));
        let what = "soak: steepest memory slope";
        if let Some(steepest) = self.slopes.first() {
            let note = format!("{}, {:.0} min", steepest.process, steepest.minutes);
            let figure = Figure::new(what, steepest.kb_a_minute, "kB/m", Bound::AtMost(FLAT));
            figures.push(figure.note(note));
        }
        figures
    }

    /// Every outage, those too that had not ended when the client left.
    fn down(&self) -> Vec<Down<'_>> {
        let mut all = Vec::new();
        for life in &self.lives {
            for one in &life.counted.outages {
                all.push(self.after(life, one.begin_ms, one.end_ms));
            }
            if life.counted.silent_ms > DOWN {
                let begin = life.end_ms - life.counted.silent_ms;
                all.push(self.after(life, begin, life.end_ms));
            }
        }
        all
    }

    fn after<'a>(&'a self, life: &'a Life, begin_ms: f64, end_ms: f64) -> Down<'a> {
        let after = self
            .faults
            .iter()
            .rev()
            .find(|fault| fault.begin_ms <= end_ms);
        Down {
            life,
            ms: end_ms - begin_ms,
            at_s: begin_ms / 1e3,
            after,
        }
    }
}

impl Down<'_> {
    fn figure(&self) -> Figure {
        let fault = self.after.map_or_else(
            || "nothing".to_owned(),
            |fault| format!("{:?}: {}", fault.kind, fault.what),
        );
        let Life {
            client,
            service,
            node,
            ..
        } = self.life;
        Figure::new(
            "soak: one of the longest outages",
            self.ms,
            "ms",
            Bound::Beside,
        )
        .note(format!(
            "{client} ({service}) on {node} at {:.0} s, after {fault}",
            self.at_s
        ))
    }
}
