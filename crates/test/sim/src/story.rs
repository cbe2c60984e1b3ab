//! What befalls a mesh: clients come and go, faults strike and pass, and then there is rest.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    chance::Chance,
    check::{Checker, Path, Violation, path},
    world::{CLIENTS, Who, World},
};

mod fault;

/// How long faults strike.
const TROUBLED: Duration = Duration::from_secs(600);
/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a client's process waits for the answer of its Close before it ends.
const CLOSING: Duration = Duration::from_secs(20);
/// How often a client that closes is looked at.
const CLOSED: Duration = Duration::from_millis(20);
/// How long after an answered Close everything of it must be gone.
const BURIED: Duration = Duration::from_secs(2);

/// What is to be done later.
#[derive(Debug, Clone, Copy)]
enum Later {
    Look,
    Churn,
    Fault,
    Kill(Who),
    Start(Who),
    Together(usize, usize),
    Fair,
    DiskWorks,
    Renewed(Who),
    ClockRight(usize),
    Closing(usize, Instant),
    Buried(usize, Instant),
}

/// See the module.
#[derive(Debug)]
pub struct Story {
    /// The mesh.
    pub world: World,
    /// What must hold.
    pub checker: Checker,
    /// How many faults there were.
    pub faults: u64,
    chance: Chance,
    calm: bool,
    later: BTreeMap<(Instant, u64), Later>,
    entries: u64,
    /// Since when a client closes, and the links that it had.
    closing: BTreeMap<usize, (Instant, Path)>,
    /// Everybody leaves, and everything is there.
    leaving: bool,
}

impl Story {
    /// The story of a mesh; a calm one has no faults.
    #[must_use]
    pub fn new(world: World, chance: Chance, calm: bool) -> Self {
        Self {
            world,
            checker: Checker::default(),
            faults: 0,
            chance,
            calm,
            later: BTreeMap::new(),
            entries: 0,
            closing: BTreeMap::new(),
            leaving: false,
        }
    }

    fn after(&mut self, wait: Duration, what: Later) {
        self.entries += 1;
        self.later
            .insert((Instant::now() + wait, self.entries), what);
    }

    /// Tells it to its end.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub async fn tell(&mut self) -> Result<(), Violation> {
        for place in 0..CLIENTS {
            if self.chance.below(4) > 0 {
                let wait = self.chance.millis(0, 5000);
                self.after(wait, Later::Start(Who::Client(place)));
            }
        }
        self.after(LOOK, Later::Look);
        self.after(Duration::from_secs(10), Later::Churn);
        if !self.calm {
            self.after(Duration::from_secs(8), Later::Fault);
        }
        let end = Instant::now() + TROUBLED;
        self.until(end).await?;
        self.rest().await?;
        self.leave().await
    }

    async fn until(&mut self, end: Instant) -> Result<(), Violation> {
        while let Some(((at, number), what)) = self.later.pop_first() {
            if at > end {
                self.later.insert((at, number), what);
                break;
            }
            sleep_until(at).await;
            self.act(what, end)?;
        }
        sleep_until(end).await;
        Ok(())
    }

    fn act(&mut self, what: Later, end: Instant) -> Result<(), Violation> {
        match what {
            Later::Look => {
                self.after(LOOK, Later::Look);
                return self.checker.look(&self.world);
            }
            Later::Churn => self.churn(),
            Later::Fault => {
                self.strike(end);
                let wait = self.chance.millis(2_000, 28_000);
                self.after(wait, Later::Fault);
            }
            Later::Kill(who) => self.world.kill(who),
            Later::Start(who) => {
                if !self.world.runs(who) {
                    self.world.start(who);
                }
            }
            Later::Together(a, b) => self.world.ground.net.part(a, b, false),
            Later::Fair => self.world.ground.net.set_weather(Default::default()),
            Later::DiskWorks => self.world.registry.disk.fail(false),
            Later::Renewed(who) => self.renew(who, None),
            Later::ClockRight(node) => self.world.ground.clocks[node].correct(),
            Later::Closing(place, since) => return self.closing(place, since),
            Later::Buried(place, since) => {
                let path = self.closing.get(&place).filter(|(at, _)| *at == since);
                if let Some((_, path)) = path {
                    return self.checker.buried(&self.world, place, path);
                }
            }
        }
        Ok(())
    }

    /// A client comes or goes.
    fn churn(&mut self) {
        let wait = self.chance.millis(2_000, 20_000);
        self.after(wait, Later::Churn);
        let place = self.chance.below(CLIENTS);
        let who = Who::Client(place);
        let pod = &self.world.clients[place];
        match (&pod.role, pod.wanted) {
            (Some(_), true) => self.close(place),
            (None, false) => self.world.start(who),
            (Some(_), false) | (None, true) => {}
        }
    }

    /// A client lets its connection go, and ends when that is answered.
    fn close(&mut self, place: usize) {
        let links = path(&self.world, place).map(|path| path.links);
        let now = Instant::now();
        self.closing.insert(place, (now, links.unwrap_or_default()));
        let pod = &mut self.world.clients[place];
        pod.wanted = false;
        if let Some(role) = &pod.role {
            role.close();
        }
        self.world
            .ground
            .log
            .mark(format_args!("{} closes", pod.name));
        self.after(CLOSED, Later::Closing(place, now));
    }

    /// A client that has been answered, or waits no longer, ends.
    fn closing(&mut self, place: usize, since: Instant) -> Result<(), Violation> {
        let pod = &self.world.clients[place];
        let Some(role) = pod.role.as_ref().filter(|_| !pod.wanted) else {
            return Ok(());
        };
        match role.closed() {
            None if since.elapsed() < CLOSING && role.process.alive() => {
                self.after(CLOSED, Later::Closing(place, since));
                Ok(())
            }
            answer => {
                let name = pod.name.clone();
                self.world
                    .ground
                    .log
                    .mark(format_args!("{name} closed: {answer:?}"));
                self.world.kill(Who::Client(place));
                if self.leaving {
                    self.checker.answered(&name, answer.as_ref())?;
                }
                if matches!(answer, Some(Ok(()))) {
                    self.after(BURIED, Later::Buried(place, since));
                    if let Some((_, path)) = self.closing.get(&place) {
                        return self.checker.closed(&self.world, place, path);
                    }
                }
                Ok(())
            }
        }
    }

    /// All faults pass; whoever wants to be served has the time to be.
    async fn rest(&mut self) -> Result<(), Violation> {
        self.world.ground.log.mark(format_args!("rest"));
        self.pass();
        let life = self.world.ground.life;
        self.until(Instant::now() + life * 2 + Duration::from_secs(30))
            .await?;
        self.checker.all_served(&self.world)
    }

    /// Everybody leaves.
    async fn leave(&mut self) -> Result<(), Violation> {
        self.world.ground.log.mark(format_args!("leave"));
        self.leaving = true;
        for place in 0..CLIENTS {
            let pod = &self.world.clients[place];
            if pod.role.is_some() && pod.wanted {
                self.close(place);
            }
        }
        let life = self.world.ground.life;
        self.until(Instant::now() + life + Duration::from_secs(30))
            .await?;
        self.checker.nothing_left(&self.world)
    }
}
