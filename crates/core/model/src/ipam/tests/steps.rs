//! Rows of the allocator's table.

/// groups | steps; a step is `id` or `id:wanted`, `-id` frees, `!id` undoes, `+id` confirms;
/// after each allocation ` -> dst<src ...`.
pub(super) const STEPS: &[(&str, &[&str])] = &[
    (
        "172.16.1.100/31",
        &[
            "a -> 172.16.1.100<172.16.1.101",
            "a -> 172.16.1.100<172.16.1.101",
        ],
    ),
    ("fd00::/127", &["a -> fd00::<fd00::1"]),
    (
        "10.0.0.0/30",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b -> 10.0.0.2<10.0.0.3",
            "-a",
            "c -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // One pair of each family at once; without brackets too.
    (
        "[10.0.0.0/24],[fd00::/64]",
        &["a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1"],
    ),
    (
        "10.0.0.0/24,fd00::/64",
        &["a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1"],
    ),
    // Alternatives in one group.
    (
        "[10.0.0.0/31,10.1.0.0/31]",
        &["a -> 10.0.0.0<10.0.0.1", "b -> 10.1.0.0<10.1.0.1"],
    ),
    // Exclusions are the client's own: the next one gets what they spared.
    (
        "10.0.0.0/29",
        &[
            "a:not=10.0.0.0/30 -> 10.0.0.4<10.0.0.5",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/29",
        &["a:not=10.0.0.1,10.0.0.2/31 -> 10.0.0.0<10.0.0.4"],
    ),
    // A new exclusion that hits the pair gives another, and what it spares can be used again.
    (
        "10.0.0.0/29",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.0/32 -> 10.0.0.1<10.0.0.2",
            "+a",
            "b -> 10.0.0.0<10.0.0.3",
        ],
    ),
    (
        "10.0.0.0/29",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.6/32 -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // Addresses asked for are kept if both are free.
    (
        "10.0.0.0/24",
        &[
            "a:src=10.0.0.9/32;dst=10.0.0.8/32 -> 10.0.0.8<10.0.0.9",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b:src=10.0.0.1/32;dst=10.0.0.8/32 -> 10.0.0.2<10.0.0.3",
        ],
    ),
    ("10.0.0.0/24", &["a:src=10.0.0.9/32 -> 10.0.0.0<10.0.0.1"]),
    (
        "10.0.0.0/24",
        &["a:src=10.0.0.9/32;dst=10.0.0.9/32 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24",
        &["a:src=10.0.0.9;dst=10.0.0.8;not=10.0.0.8/31 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24",
        &["a:src=192.168.0.1/32;dst=192.168.0.2/32 -> 10.0.0.0<10.0.0.1"],
    ),
    (
        "10.0.0.0/24,fd00::/64",
        &["a:src=10.0.0.9/32,fd00::9/128;dst=10.0.0.8/32 -> 10.0.0.8<10.0.0.9 fd00::<fd00::1"],
    ),
    // Used up: the message names the prefixes and their use, and nothing changed.
    (
        "[10.0.0.0/31,10.0.1.0/32]",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b -> no two free addresses in 10.0.0.0/31, 10.0.1.0/32: 2 of 3 are in use, 0 prefixes are excluded by the client; add a prefix or wait until a client leaves",
            "-a",
            "b -> 10.0.0.0<10.0.0.1",
        ],
    ),
    // One family used up: the other one keeps nothing of the attempt.
    (
        "[10.0.0.0/24],[fd00::/127]",
        &[
            "a -> 10.0.0.0<10.0.0.1 fd00::<fd00::1",
            "b -> no two free addresses in fd00::/127: 2 of 2 are in use, 0 prefixes are excluded by the client; add a prefix or wait until a client leaves",
            "-a",
            "c -> 10.0.0.0<10.0.0.1 fd00::<fd00::1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a:src=x -> ip_context.src_ip_addrs: \"x\" is not an address or prefix: write for example 172.16.1.0/24",
        ],
    ),
    // Upstream's bug 1: a refresh that fails downstream frees the pair but keeps the id's entry, so
    // that the next client and the old one hold the same addresses.
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "+a",
            "a:not=10.0.0.0/30 -> 10.0.0.4<10.0.0.5",
            "b -> 10.0.0.2<10.0.0.3",
            "!a",
            "c -> 10.0.0.4<10.0.0.5",
            "a -> 10.0.0.0<10.0.0.1",
        ],
    ),
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "!a",
            "b -> 10.0.0.0<10.0.0.1",
            "a -> 10.0.0.2<10.0.0.3",
        ],
    ),
    // Upstream's bug 2: taking a wanted source whose destination is in use leaks the source.
    (
        "10.0.0.0/30",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "b:src=10.0.0.3/32;dst=10.0.0.0/32 -> 10.0.0.2<10.0.0.3",
        ],
    ),
    // Upstream's bug 3: closing twice frees twice, so that two clients get one address.
    (
        "10.0.0.0/24",
        &[
            "a -> 10.0.0.0<10.0.0.1",
            "-a",
            "-a",
            "b -> 10.0.0.0<10.0.0.1",
            "-a",
            "c -> 10.0.0.2<10.0.0.3",
        ],
    ),
];
