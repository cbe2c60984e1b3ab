//! The soak as a picture: a row for each client's place, outages in red, faults as marks.

use std::fmt::Write as _;

use super::city::Life;
use super::fault::Kind;
use super::report::Report;

/// Everything in pixels.
const LEFT: f64 = 118.0;
const RIGHT: f64 = 24.0;
const WIDTH: f64 = 1100.0;
const TOP: f64 = 96.0;
const ROW: f64 = 9.0;
/// Between the rows of two services.
const GAP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
/// An outage is seen, however short.
const THINNEST: f64 = 1.6;
/// Labels of the time axis are about so far apart.
const STEP: f64 = 90.0;

/// What kinds of fault are drawn alike: how they are called, and their color.
const LEGEND: &[(&str, &str, &[Kind])] = &[
    ("a role killed", "#3b6ea5", &[Kind::Role]),
    (
        "a node's roles, or all",
        "#7b4fa3",
        &[Kind::Node, Kind::Everything],
    ),
    (
        "interface down or removed",
        "#c98a1b",
        &[Kind::LinkDown, Kind::LinkRemoved],
    ),
    (
        "endpoint killed or ended",
        "#b5478a",
        &[Kind::EndpointKilled, Kind::EndpointEnded],
    ),
    (
        "client killed or deleted",
        "#4d8f55",
        &[Kind::ClientKilled, Kind::NamespaceDeleted],
    ),
    ("service edited", "#8a8f98", &[Kind::ServiceEdited]),
];

struct Canvas {
    text: String,
    scale: f64,
}

/// The picture, as SVG.
pub(crate) fn draw(report: &Report) -> String {
    let mut lives: Vec<&Life> = report.lives.iter().collect();
    lives.sort_by(|a, b| {
        let key = |life: &Life| (life.service.clone(), life.node.clone(), life.place);
        key(a)
            .cmp(&key(b))
            .then(a.counted.begin_ms.total_cmp(&b.counted.begin_ms))
    });
    let rows = rows(&lives);
    let height = rows.last().map_or(TOP, |(_, y)| y + ROW) + BOTTOM;
    let mut canvas = Canvas {
        text: String::new(),
        scale: (WIDTH - LEFT - RIGHT) / report.lived_ms.max(1.0),
    };
    canvas.head(report, height);
    canvas.axis(report.lived_ms, height - BOTTOM);
    canvas.faults(report, height - BOTTOM);
    for (life, y) in &rows {
        canvas.life(life, *y);
    }
    canvas.services(&rows);
    canvas.text.push_str("</svg>\n");
    canvas.text
}

/// Where each life is drawn: those of one place share a row.
fn rows<'a>(lives: &[&'a Life]) -> Vec<(&'a Life, f64)> {
    let mut y = TOP;
    let mut rows: Vec<(&Life, f64)> = Vec::new();
    for life in lives {
        if let Some((last, _)) = rows.last() {
            if last.service != life.service {
                y += ROW + GAP;
            } else if last.place != life.place {
                y += ROW;
            }
        }
        rows.push((life, y));
    }
    rows
}

// === impl Canvas ===

impl Canvas {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        let _infallible = self.text.write_fmt(element);
        self.text.push('\n');
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + ms * self.scale
    }

    fn head(&mut self, report: &Report, height: f64) {
        self.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"system-ui, \
             sans-serif\" font-size=\"11\" fill=\"#2b2f36\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        ));
        let minutes = report.lived_ms / 60_000.0;
        let clients: std::collections::BTreeSet<usize> =
            report.lives.iter().map(|life| life.place).collect();
        self.add(format_args!(
            "<text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"600\">Outages of {} clients in {minutes:.0} minutes with \
             {} faults</text>",
            clients.len(),
            report.faults.len()
        ));
        let mut x = LEFT;
        let mut entries: Vec<(&str, &str)> =
            vec![("no answer", "#d6202a"), ("connected", "#dfe9df")];
        entries.extend(LEGEND.iter().map(|(name, color, _)| (*name, *color)));
        for (at, (name, color)) in entries.iter().enumerate() {
            let (width, tall) = if at < 2 { (10.0, 7.0) } else { (2.0, 11.0) };
            let top = 51.0 - tall / 2.0;
            self.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width}\" height=\"{tall}\" fill=\"{color}\"/><text x=\"{:.1}\" \
                 y=\"55\">{name}</text>",
                x + width + 4.0
            ));
            let letters = u16::try_from(name.len()).map_or(0.0, f64::from);
            x += width + letters * 5.6 + 18.0;
        }
    }

    fn axis(&mut self, lived_ms: f64, bottom: f64) {
        let seconds = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
        let step = seconds
            .into_iter()
            .find(|one| one * 1e3 * self.scale >= STEP)
            .unwrap_or(3600.0);
        let mut at = 0.0;
        while at * 1e3 <= lived_ms {
            let x = self.x(at * 1e3);
            let label = format!("{:.0}:{:02.0}", (at / 60.0).floor(), at % 60.0);
            self.add(format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#eceef1\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#6b7280\">{label}</text>",
                TOP - 6.0,
                bottom + 6.0,
                bottom + 22.0
            ));
            at += step;
        }
    }

    fn faults(&mut self, report: &Report, bottom: f64) {
        for fault in &report.faults {
            let found = LEGEND
                .iter()
                .find(|(_, _, kinds)| kinds.contains(&fault.kind));
            let color = found.map_or("#8a8f98", |(_, color, _)| color);
            let (from, to) = (self.x(fault.begin_ms), self.x(fault.end_ms));
            let what = escape(&fault.what);
            self.add(format_args!(
                "<g fill=\"{color}\"><title>{what}</title><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 opacity=\"0.08\"/><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"1\" height=\"{:.1}\" opacity=\"0.55\"/></g>",
                TOP - 10.0,
                (to - from).max(1.0),
                bottom - TOP + 14.0,
                TOP - 18.0,
                bottom - TOP + 22.0
            ));
        }
    }

    fn life(&mut self, life: &Life, y: f64) {
        let bar = |from: f64, to: f64, color: &str, thinnest: f64, opacity: f64, title: &str| {
            let width = (to - from).max(thinnest);
            format!(
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{color}\" opacity=\"{opacity}\" \
                 rx=\"1\"><title>{}</title></rect>",
                y + 1.0,
                ROW - 2.0,
                escape(title)
            )
        };
        let (begin, end) = (self.x(life.counted.begin_ms), self.x(life.end_ms));
        let name = format!("{} on {}", life.client, life.node);
        let mut text = bar(begin, end, "#cfe3cf", 1.0, 0.65, &name);
        for one in &life.counted.outages {
            let title = format!(
                "{}: {:.0} ms, {} packets",
                life.client,
                one.end_ms - one.begin_ms,
                one.lost
            );
            text += &bar(
                self.x(one.begin_ms),
                self.x(one.end_ms),
                "#d6202a",
                THINNEST,
                1.0,
                &title,
            );
        }
        if life.counted.silent_ms > 1000.0 {
            let from = self.x(life.end_ms - life.counted.silent_ms);
            text += &bar(from, end, "#d6202a", THINNEST, 1.0, "until the end");
        }
        self.text.push_str(&text);
        self.text.push('\n');
    }

    /// The services' names beside their rows, and the nodes' within.
    fn services(&mut self, rows: &[(&Life, f64)]) {
        let mut last = ("", "");
        for (life, y) in rows {
            if last.0 != life.service {
                self.add(format_args!(
                    "<text x=\"14\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
                    y + ROW - 1.0,
                    escape(&life.service)
                ));
            }
            if last != (life.service.as_str(), life.node.as_str()) {
                self.add(format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"9\" fill=\"#6b7280\">{}</text>",
                    LEFT - 8.0,
                    y + ROW - 1.0,
                    escape(&life.node)
                ));
            }
            last = (&life.service, &life.node);
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
