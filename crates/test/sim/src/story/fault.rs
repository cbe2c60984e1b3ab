//! Faults: which strike, and when they pass.

use std::time::Duration;

use nsm_chain::Tokens as _;
use tokio::time::Instant;

use super::{Later, Story};
use crate::{
    net::Weather,
    world::{CLIENTS, NODES, Who},
};

/// A crash happens after at most so many polls of the process's tasks.
const POLLS: u64 = 300;
/// Or after so long, where it does nothing.
const IDLE: Duration = Duration::from_secs(1);

impl Story {
    /// One fault.
    pub(super) fn strike(&mut self, end: Instant) {
        self.faults += 1;
        match self.chance.below(100) {
            0..=44 => self.crash_one(end),
            45..=49 => self.crash_node(),
            50..=59 => self.storm(),
            60..=67 => self.part(),
            68..=77 => self.hurt_a_link(),
            78..=84 => self.delete_a_client(),
            85..=91 => self.delete_an_endpoint(),
            92..=94 => self.break_the_disk(),
            95..=97 => self.end_a_certificate(),
            _ => self.step_a_clock(),
        }
    }

    /// Down for moments mostly, seldom for longer than a lease.
    fn downtime(&self) -> Duration {
        match self.chance.below(10) {
            0..=5 => self.chance.millis(1, 3_000),
            6..=8 => self.chance.millis(3_000, 20_000),
            _ => self.world.ground.life + self.chance.millis(0, 60_000),
        }
    }

    fn crash(&mut self, who: Who, polls: u64) {
        let Some(process) = self.world.process(who) else {
            return;
        };
        let polls = u32::try_from(polls).unwrap_or(0);
        self.world
            .ground
            .log
            .mark(format_args!("crash {} after {polls} polls", process.name()));
        process.kill_after(polls);
        let down = self.downtime();
        self.after(IDLE, Later::Kill(who));
        self.after(IDLE + down, Later::Start(who));
    }

    fn crash_one(&mut self, _end: Instant) {
        let mut all = self.world.servers();
        let running = |place: &usize| {
            let pod = &self.world.clients[*place];
            pod.role.is_some() && pod.wanted
        };
        all.extend((0..CLIENTS).filter(running).map(Who::Client));
        // Those in the middle are hit as often as all others together.
        let who = if self.chance.below(2) == 0 {
            let node = self.chance.below(NODES);
            *self
                .chance
                .one(&[Who::Manager(node), Who::Forwarder(node), Who::Registry])
        } else {
            *self.chance.one(&all)
        };
        let polls = self.chance.between(0, POLLS);
        self.crash(who, polls);
    }

    fn crash_node(&mut self) {
        let node = self.chance.below(NODES);
        for who in [Who::Manager(node), Who::Forwarder(node)] {
            let polls = self.chance.between(0, POLLS);
            self.crash(who, polls);
        }
    }

    fn storm(&mut self) {
        let weather = Weather {
            slow: self.chance.between(0, 100),
            lost: self.chance.between(0, 60),
        };
        self.world.ground.log.mark(format_args!("{weather:?}"));
        self.world.ground.net.set_weather(weather);
        let wait = self.chance.millis(3_000, 30_000);
        self.after(wait, Later::Fair);
    }

    /// Nodes that do not hear each other; the registry has one of its own.
    fn part(&mut self) {
        let a = self.chance.below(NODES);
        let b = (a + 1 + self.chance.below(NODES)) % (NODES + 1);
        self.world
            .ground
            .log
            .mark(format_args!("nodes {a} and {b} are apart"));
        self.world.ground.net.part(a, b, true);
        let wait = self.downtime();
        self.after(wait, Later::Together(a, b));
    }

    fn hurt_a_link(&mut self) {
        let kernel = &self.world.ground.kernels[self.chance.below(NODES)];
        let keys = kernel.keys();
        if keys.is_empty() {
            return;
        }
        let key = *self.chance.one(&keys);
        if self.chance.below(2) == 0 {
            kernel.set_down(key);
        } else {
            kernel.remove(key);
        }
    }

    fn delete_a_client(&mut self) {
        let place = self.chance.below(CLIENTS);
        let pod = &self.world.clients[place];
        if pod.role.is_none() || !pod.wanted {
            return;
        }
        self.world.delete(Who::Client(place));
        let wait = self.downtime();
        self.after(wait, Later::Start(Who::Client(place)));
    }

    fn delete_an_endpoint(&mut self) {
        let place = self.chance.below(self.world.endpoints.len());
        self.world.delete(Who::Endpoint(place));
        let wait = self.downtime();
        self.after(wait, Later::Start(Who::Endpoint(place)));
    }

    fn break_the_disk(&mut self) {
        self.world
            .ground
            .log
            .mark(format_args!("the registry's disk is full"));
        self.world.registry.disk.fail(true);
        let wait = self.downtime();
        self.after(wait, Later::DiskWorks);
    }

    fn end_a_certificate(&mut self) {
        let all = self.world.servers();
        let who = *self.chance.one(&all);
        self.renew(who, Some(self.chance.millis(0, 5_000)));
        let wait = self.downtime();
        self.after(wait, Later::Renewed(who));
    }

    /// The certificate of a process ends, or is renewed.
    pub(super) fn renew(&self, who: Who, ends: Option<Duration>) {
        if let Some(keys) = self.world.keys(who) {
            let log = &self.world.ground.log;
            log.mark(format_args!(
                "certificate of {} ends: {ends:?}",
                keys.own_id()
            ));
            keys.end_at(ends.map(|wait| keys.now() + wait));
        }
    }

    fn step_a_clock(&mut self) {
        let node = self.chance.below(NODES);
        let by = i64::try_from(self.chance.below(4_000)).unwrap_or(0) - 2_000;
        self.world
            .ground
            .log
            .mark(format_args!("the clock of node {node} steps by {by} ms"));
        self.world.ground.clocks[node].step(by);
        let wait = self.downtime();
        self.after(wait, Later::ClockRight(node));
    }

    /// Every fault passes.
    pub(super) fn pass(&mut self) {
        let later = std::mem::take(&mut self.later);
        for ((at, number), what) in later {
            match what {
                Later::Fault | Later::Churn | Later::Kill(_) | Later::Start(_) => {}
                Later::Together(..)
                | Later::Fair
                | Later::DiskWorks
                | Later::Renewed(_)
                | Later::ClockRight(_) => {
                    let _repairs_break_nothing = self.act(what, at);
                }
                Later::Look | Later::Closing(..) | Later::Buried(..) => {
                    self.later.insert((at, number), what);
                }
            }
        }
        let wanted = |place: &usize| self.world.clients[*place].wanted;
        let clients = (0..CLIENTS).filter(wanted).map(Who::Client);
        let all: Vec<_> = self.world.servers().into_iter().chain(clients).collect();
        for who in all {
            if self.world.runs(who) {
                // One that was to crash soon is over that as well.
                if let Some(process) = self.world.process(who) {
                    process.kill_after(u32::MAX);
                }
            } else {
                self.world.start(who);
            }
        }
    }
}
