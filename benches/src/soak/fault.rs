//! What is broken, and mended again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nsm_lab::Disturbance;
use serde::Serialize;

use super::city::{City, EDITED, NODES, preferring};
use super::dice::Dice;
use crate::town::INTERFACE;

/// The longest that killed roles stay away, seconds.
const AWAY_MAX: usize = 12;
/// The signal of a crash.
const KILL: i32 = 9;
/// An endpoint that is back under its name takes nobody new for 3 s, so that clients of before come
/// first: until then it is none that others could go to.
const HELD: Duration = Duration::from_millis(3200);
/// How long an endpoint may take to end by itself.
const GRACE: Duration = Duration::from_secs(8);

/// What kind of thing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Role,
    Node,
    Everything,
    LinkDown,
    LinkRemoved,
    EndpointKilled,
    EndpointEnded,
    ClientKilled,
    NamespaceDeleted,
    ServiceEdited,
}

/// Each as often as it stands here.
pub(crate) const ALL: &[Kind] = &[
    Kind::Role,
    Kind::Role,
    Kind::Role,
    Kind::Role,
    Kind::Node,
    Kind::Everything,
    Kind::LinkDown,
    Kind::LinkDown,
    Kind::LinkRemoved,
    Kind::EndpointKilled,
    Kind::EndpointKilled,
    Kind::EndpointEnded,
    Kind::ClientKilled,
    Kind::NamespaceDeleted,
    Kind::NamespaceDeleted,
    Kind::ServiceEdited,
];

/// What leaves the processes that serve alive.
pub(crate) const OF_CLIENTS: &[Kind] = &[
    Kind::LinkDown,
    Kind::LinkRemoved,
    Kind::ClientKilled,
    Kind::NamespaceDeleted,
    Kind::ServiceEdited,
];

/// One that happened.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    pub kind: Kind,
    /// To whom.
    pub what: String,
    pub begin_ms: f64,
    /// When everything that was taken away was back.
    pub end_ms: f64,
}

/// In the order in which a node starts them: the others wait for an identity.
const ROLES: [&str; 3] = ["ca", "manager", "forwarder"];

/// Throws the dice for one of these kinds, and lets it happen; `number` tells names of newcomers
/// apart.
///
/// # Errors
/// What was taken away did not come back.
pub(crate) fn happen(
    city: &mut City,
    dice: &mut Dice,
    kinds: &[Kind],
    number: usize,
) -> anyhow::Result<Fault> {
    let kind = *dice.pick(kinds);
    let begin_ms = city.crowd.now_ms();
    let what = match kind {
        Kind::Role => {
            let node = dice.below(NODES);
            let roles = if node == 0 { 4 } else { 3 };
            let role = [ROLES[0], ROLES[1], ROLES[2], "registry"][dice.below(roles)];
            away(city, dice, &[(role, node)])
        }
        Kind::Node => {
            let node = dice.below(NODES);
            let all: Vec<_> = ROLES.iter().map(|role| (*role, node)).collect();
            away(city, dice, &all)
        }
        Kind::Everything => {
            let mut all: Vec<(&str, usize)> = (0..NODES).map(|node| ("ca", node)).collect();
            all.push(("registry", 0));
            for role in ["manager", "forwarder"] {
                all.extend((0..NODES).map(|node| (role, node)));
            }
            away(city, dice, &all).map(|_| "every role".to_owned())
        }
        Kind::LinkDown => link(city, dice, Disturbance::Down),
        Kind::LinkRemoved => link(city, dice, Disturbance::Delete),
        Kind::EndpointKilled => endpoint(city, dice, false),
        Kind::EndpointEnded => endpoint(city, dice, true),
        Kind::ClientKilled => {
            let name = somebody(city, dice);
            let resident = city.clients.get(&name).context("no such client")?;
            resident.workload.process.signal(KILL)?;
            pause(dice, 3);
            city.revive(&name).map(|()| name)
        }
        Kind::NamespaceDeleted => {
            let name = somebody(city, dice);
            let place = city.clients.get(&name).map_or(0, |one| one.place);
            city.leave(&name, false);
            pause(dice, 3);
            let newcomer = format!("client-{place:02}-{number}");
            city.settle(place, &newcomer).map(|()| name)
        }
        Kind::ServiceEdited => {
            let color = *dice.pick(&["blue", "green"]);
            debug_assert_eq!(EDITED, 0, "the manifest is that of the first service");
            city.apply(&preferring(color))
                .map(|()| format!("alpha prefers {color}"))
        }
    };
    Ok(Fault {
        kind,
        what: what.with_context(|| format!("{kind:?}"))?,
        begin_ms,
        end_ms: city.crowd.now_ms(),
    })
}

/// Kills roles, leaves them away for a while, and starts them again.
fn away(city: &City, dice: &mut Dice, roles: &[(&str, usize)]) -> anyhow::Result<String> {
    let mesh = &city.town.mesh;
    let began = Instant::now();
    for (role, node) in roles {
        mesh.node(*node).kill(role);
    }
    pause(dice, AWAY_MAX);
    for (role, node) in roles {
        mesh.start(mesh.node(*node), role)?;
    }
    let all: Vec<String> = roles
        .iter()
        .map(|(role, node)| format!("{role} of node-{}", node + 1))
        .collect();
    let seconds = began.elapsed().as_secs_f64();
    Ok(format!("{}, away {seconds:.1} s", all.join(", ")))
}

fn link(city: &City, dice: &mut Dice, how: Disturbance) -> anyhow::Result<String> {
    let name = somebody(city, dice);
    let resident = city.clients.get(&name).context("no such client")?;
    resident.workload.pod.cell().disturb(INTERFACE, how)?;
    Ok(name)
}

fn endpoint(city: &mut City, dice: &mut Dice, in_order: bool) -> anyhow::Result<String> {
    let site = dice.below(city.endpoints.len());
    if in_order {
        let _exit = city.endpoints[site].process.stop(GRACE);
    }
    city.endpoints[site].pod.kill();
    pause(dice, 4);
    city.endpoints[site] = city.build(site)?;
    std::thread::sleep(HELD);
    Ok(city.site(site).to_owned())
}

fn somebody(city: &City, dice: &mut Dice) -> String {
    let names: Vec<&String> = city.clients.keys().collect();
    (*dice.pick(&names)).clone()
}

/// Up to so many seconds.
fn pause(dice: &mut Dice, seconds: usize) {
    let milliseconds = u64::try_from(dice.below(seconds * 1000)).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(milliseconds));
}
