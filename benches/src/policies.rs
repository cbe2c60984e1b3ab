//! The native rules of one request, and the same in Rego.
//!
//! A path of six segments with a key for each, as a hop behind the fifth sees it. *Cold*: nothing
//! was seen before. *Warm*: the peer and its token were, as with each refresh until the token is
//! renewed. The alternative is what upstream does: the four standard files of a server,
//! interpreted.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nsm_api::connection::{Path, PathSegment};
use nsm_identity::{Identity, ca::Root, token_cache::VerifiedTokens};
use nsm_policy::proof::Proof;

use crate::figure::{Bound, Figure, median, say, spread};

/// The bench's name.
pub(crate) const NAME: &str = "policies";

/// Segments of the path: a client, two managers, two forwarders and an endpoint.
const SEGMENTS: usize = 6;
/// Rounds of which the median is the figure.
const ROUNDS: usize = 2_000;
/// Rounds before those that count.
const WARM_UP: usize = 200;
/// Longer than the bench.
const LIFE: Duration = Duration::from_secs(3600);
/// Microseconds that the rules may take: with nothing seen before, and with peer and token seen.
const COLD_MAX: f64 = 400.0;
const WARM_MAX: f64 = 20.0;

/// A path, and who stands where on it.
struct World {
    path: Path,
    hops: Vec<Arc<Identity>>,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let root = Root::generate("bench.test".parse()?)?;
        let names = [
            "nsc-7d4f",
            "nsmgr-alpha",
            "forwarder-alpha",
            "nsmgr-beta",
            "forwarder-beta",
            "nse-x2k9",
        ];
        let hops = names.map(|name| -> anyhow::Result<Arc<Identity>> {
            let id = format!("spiffe://bench.test/ns/nsm-system/pod/{name}").parse()?;
            Ok(root.issue(&id, LIFE)?)
        });
        let hops = hops.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let mut path = Path::default();
        for (at, hop) in hops.iter().enumerate() {
            // The last one's token is for whoever called it.
            let next = hops.get(at + 1).unwrap_or(&hops[SEGMENTS - 2]);
            path.path_segments.push(PathSegment {
                name: hop.id().path().to_owned(),
                id: format!("id-{at}"),
                token: hop
                    .signer()
                    .sign(hop.id(), next.id(), SystemTime::now() + LIFE)?,
                ..Default::default()
            });
        }
        path.index = u32::try_from(SEGMENTS - 1)?;
        Ok(Self { path, hops })
    }

    fn peer(&self) -> &Identity {
        &self.hops[SEGMENTS - 2]
    }

    fn native(&self, verified: &VerifiedTokens) -> anyhow::Result<()> {
        let proof = Proof {
            own: self.hops[SEGMENTS - 1].id(),
            peer: self.peer().id(),
            certificate: self.peer().leaf(),
            now: Some(SystemTime::now()),
            signatures: verified,
        };
        Ok(proof.of_request(&self.path)?)
    }
}

/// Microseconds of each of the rounds that count.
fn rounds(mut round: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for at in 0..WARM_UP + ROUNDS {
        let began = Instant::now();
        round()?;
        if at >= WARM_UP {
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// All figures of it.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let world = World::new()?;
    let cold = rounds(|| world.native(&VerifiedTokens::default()))?;
    let verified = VerifiedTokens::default();
    let warm = rounds(|| world.native(&verified))?;
    let figure = |what: &str, times: &[f64], bound| {
        Figure::new(what, median(times), "us", bound).note(spread(times))
    };
    let mut figures = vec![
        figure(
            "native rules, 6 segments, cold",
            &cold,
            Bound::AtMost(COLD_MAX),
        ),
        figure(
            "native rules, 6 segments, warm",
            &warm,
            Bound::AtMost(WARM_MAX),
        ),
    ];
    match alternative(&world)? {
        Some(times) => figures.push(figure("the same in Rego (regorus)", &times, Bound::Beside)),
        None => say("the same in Rego is not built in: add `--features opa`"),
    }
    Ok(figures)
}

/// The standard files of a server, as upstream runs them: each for itself.
#[cfg(feature = "opa")]
fn alternative(world: &World) -> anyhow::Result<Option<Vec<f64>>> {
    use nsm_policy::{custom::Policies, input::Input};

    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../interop/go/internal/policy/rego"
    );
    let masks = ["common/.*.rego", "server/.*.rego"].map(str::to_owned);
    let policies = Policies::load(NAME, &masks, folder.as_ref())?;
    let times = rounds(|| {
        let input = Input {
            path: &world.path,
            certificate: world.peer().leaf(),
            registration: None,
        };
        Ok(policies.check(&input)?)
    })?;
    Ok(Some(times))
}

#[cfg(not(feature = "opa"))]
#[expect(clippy::unnecessary_wraps, reason = "as its twin with the feature")]
fn alternative(_: &World) -> anyhow::Result<Option<Vec<f64>>> {
    Ok(None)
}
