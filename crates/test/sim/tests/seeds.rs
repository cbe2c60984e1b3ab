//! A fixed number of seeds, and that a seed says everything.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use sim::{
    check::Rule,
    run::{Asked, run},
    seeds::each,
};

/// Seeds that found something once, the rule that it broke, and what.
const FOUND: &[(u64, Rule, &str)] = &[
    (
        12,
        Rule::Addresses,
        "an endpoint gave an address again whose first owner still had its links",
    ),
    (15, Rule::Addresses, "the same, on one node"),
    (
        44,
        Rule::Addresses,
        "an endpoint disowned what its forwarder, started again, had not come to doubt yet",
    ),
    (
        54,
        Rule::Torn,
        "a manager whose certificate had run out ended the leases of clients that asked in vain",
    ),
    (
        168,
        Rule::Torn,
        "a forwarder that was started again could not say that it holds, its manager being away",
    ),
    (
        170,
        Rule::Carries,
        "an endpoint whose certificate had run out kept clients from all others",
    ),
    (
        39,
        Rule::Empty,
        "a hop whose answers were lost kept its part for a day when the connection went another way",
    ),
    (
        56,
        Rule::Close,
        "a close was answered while links stood at the hop that the connection had just left",
    ),
    (
        467,
        Rule::Addresses,
        "a forwarder that had answered a close was killed, and made the links again",
    ),
    (
        308,
        Rule::Addresses,
        "the same, of one that was killed with its manager before it could answer",
    ),
    (
        78,
        Rule::Torn,
        "a forwarder that was started again watched a manager before it could hold anything there",
    ),
    (
        32,
        Rule::Torn,
        "a client that was started again closed what it asked for, since it was refused at first",
    ),
    (
        254,
        Rule::Torn,
        "a close that was owed was paid while its client asked for the connection again",
    ),
    (
        955,
        Rule::Torn,
        "a manager that could refresh nothing further on did not hold it there",
    ),
    (
        1606,
        Rule::Torn,
        "a manager whose certificate had run out kept what the next hop ended",
    ),
    (
        2419,
        Rule::Torn,
        "a manager whose certificate had run out was taken for one that holds nothing",
    ),
    (
        3417,
        Rule::Carries,
        "that an endpoint's process was away hid that its interface was gone",
    ),
    (
        3816,
        Rule::Carries,
        "a manager that was started again heard that a path was broken before it had taken it up",
    ),
    (
        3474,
        Rule::Torn,
        "what it held of one connection made a manager without an identity seem to hold no other",
    ),
    (
        4899,
        Rule::Empty,
        "a forwarder that was killed at the end of a close kept what was left without a lease",
    ),
    (
        4968,
        Rule::Close,
        "a manager that was killed while it asked knew nothing to close afterwards",
    ),
    (
        8153,
        Rule::Carries,
        "a refresh found its endpoint in no registry for ever, and nobody else could have said so",
    ),
    (
        8788,
        Rule::Close,
        "a manager without a forwarder answered a Close of what it did not know",
    ),
    (
        9130,
        Rule::Addresses,
        "a client sent from addresses of before through a tunnel that was made anew for others",
    ),
    (
        1614,
        Rule::Torn,
        "a forwarder that came back after its registration had ended had to wait for the registry",
    ),
];

/// How many others run.
const SEEDS: u64 = 2;

/// A run of a seed under every rule.
fn asked(seed: u64) -> Asked {
    Asked {
        seed,
        ..Asked::default()
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let [first, again, other] = [7, 7, 8].map(|seed| run(&asked(seed)));
    assert_eq!((first.hash, first.lines), (again.hash, again.lines));
    assert_ne!(first.hash, other.hash);
}

#[test]
fn no_seed_breaks_a_rule() {
    let mut seeds: Vec<u64> = (1..=SEEDS).collect();
    seeds.extend(FOUND.iter().map(|(seed, _, _)| *seed));
    let of = |at| seeds[usize::try_from(at).unwrap()];
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    each(
        0..seeds.len() as u64,
        jobs,
        |at| asked(of(at)),
        |at, outcome| {
            let seed = of(at);
            assert_eq!(outcome.violation, None, "seed {seed}: {:#?}", outcome.tail);
            let hours = outcome.simulated.as_secs_f64() / 3600.0;
            assert!(outcome.simulated.as_secs() >= 600, "seed {seed}");
            assert!(outcome.faults >= 20, "seed {seed}: {}", outcome.faults);
            assert!(outcome.requests as f64 >= 100.0 * hours, "seed {seed}");
            true
        },
    );
}
