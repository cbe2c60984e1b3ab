//! A node that is emptied, while another one has endpoints for its clients.

use std::time::Duration;

use nsm_lab::measure::Crowd;

use super::options::Options;
use crate::figure::{Bound, Figure};
use crate::town::{Service, Town, end};

/// Clients, and how often each sends a packet.
const CLIENTS: usize = 50;
const INTERVAL: Duration = Duration::from_millis(10);
/// Packets flow so long before, and after.
const CALM: Duration = Duration::from_secs(3);

pub(crate) fn node(_: &Options) -> anyhow::Result<Vec<Figure>> {
    let town = Town::up(3, None)?;
    let tools = town.tools()?;
    let service = Service::new("echo", 1);
    let drained = town.endpoint(1, "nse-2", &service, &[])?;
    let crowd = Crowd::start(INTERVAL)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let name = format!("nsc-{number}");
        let client = town.client(0, &name, &service, "")?;
        crowd.join(&name, client.pod.cell(), service.address())?;
        clients.push(client);
    }
    let other = town.endpoint(2, "nse-3", &service, &[])?;
    std::thread::sleep(CALM);
    let outcome = town.tool(&tools, &["drain", "node-2"]);
    std::thread::sleep(CALM);
    let (mut sent, mut lost, mut longest) = (0, 0, 0.0_f64);
    for counted in crowd.counted().values() {
        sent += counted.sent;
        lost += counted.outages.iter().map(|one| one.lost).sum::<u64>();
        let gaps = counted.outages.iter().map(|one| one.end_ms - one.begin_ms);
        longest = gaps.fold(longest, f64::max);
    }
    drop(crowd);
    clients.iter().chain([&drained, &other]).for_each(end);
    town.down()?;
    let note = match &outcome {
        Ok(()) => "all moved".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let what = format!("drain of a node with {CLIENTS} clients");
    #[allow(clippy::cast_precision_loss, reason = "some thousand at most")]
    let lost = lost as f64;
    Ok(vec![
        Figure::new(
            format!("{what}: packets lost"),
            lost,
            "",
            Bound::AtMost(0.0),
        )
        .note(format!("of {sent}; longest gap {longest:.0} ms")),
        Figure::new(
            format!("{what}: not emptied"),
            f64::from(u8::from(outcome.is_err())),
            "",
            Bound::AtMost(0.0),
        )
        .note(note),
    ])
}
