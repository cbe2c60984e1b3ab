//! What is done to a node behind our back: hands on interfaces, files that are no journal any more.
//! Packets of a bystander flow throughout.

use std::{fs, path::PathBuf, time::Duration};

use redb::{Database, TableDefinition};

use crate::{
    Group,
    census::links,
    restarts::{Pair, nothing_lost, pair},
    world::{PATIENCE, Shape, World, addresses, ip, pings, says, until},
};

/// See the module.
pub(crate) const GROUP: Group = Group {
    name: "bad",
    mesh: || Shape {
        nodes: &["node-1"],
        ..Shape::default()
    },
    rows: &[
        ("hands on an interface", by_hand),
        ("a journal of a newer version", newer),
        ("a journal that is damaged", damaged),
        ("a state folder that cannot be written", unwritable),
    ],
};

/// How long until an interface that somebody changed carries packets again, on a busy machine.
const MENDED: Duration = Duration::from_secs(2);

fn by_hand(world: &World) {
    let bystander = pair(world, "b-by", 0);
    // Who does it again and again is left alone for a while: each has three of these, and the
    // forwarder may find one of them half done.
    let victims = [pair(world, "b-hand-a", 0), pair(world, "b-hand-b", 0)];
    let mark = bystander.flow.now();
    let known = victims.each_ref().map(|one| addresses(&one.client));
    let hands: [fn(&str, &str) -> String; 6] = [
        |_, _| "link set nsm-1 name mine".to_owned(),
        |_, _| "link set nsm-1 down".to_owned(),
        |_, _| "link del nsm-1".to_owned(),
        |own, _| format!("addr del {own}/32 dev nsm-1"),
        |_, _| "addr flush dev nsm-1".to_owned(),
        |_, peer| format!("route del {peer}/32"),
    ];
    for (hand, at) in hands.into_iter().zip([0, 1].into_iter().cycle()) {
        let (cell, (own, peers)) = (victims[at].client.pod.cell(), &known[at]);
        let hand = hand(&own[0], &peers[0]);
        assert_eq!(ip(cell, &hand), "", "{hand}");
        until(&hand, MENDED, || {
            links(cell) == ["nsm-1"] && pings(cell, &peers[0])
        });
        std::thread::sleep(Duration::from_millis(300));
    }
    // An address of his own stays, and is in nobody's way.
    let (cell, (_, peers)) = (victims[0].client.pod.cell(), &known[0]);
    ip(cell, "addr add 192.0.2.77/32 dev nsm-1");
    assert!(pings(cell, &peers[0]));
    assert!(ip(cell, "addr show nsm-1").contains("192.0.2.77"));
    let log = world.lab.logs().join("forwarder-node-1.log");
    let told = fs::read_to_string(log).unwrap();
    says(
        &told,
        &[
            "changed by somebody else: put right",
            "was named mine",
            "was down",
        ],
    );
    nothing_lost(&bystander.flow, mark);
    victims.into_iter().for_each(Pair::end);
    bystander.end();
}

fn state(world: &World) -> PathBuf {
    world.mesh.node(0).node().folder().join("state/forwarder")
}

/// Kills the forwarder, does something to its journal, starts it again, perhaps in vain.
fn with_journal(world: &World, spoil: impl Fn(&PathBuf), starts: bool) -> String {
    let node = world.mesh.node(0);
    node.kill("forwarder");
    spoil(&state(world).join("forwarder-node-1.journal"));
    let log = world.lab.logs().join("forwarder-node-1.log");
    let before = fs::read_to_string(&log).unwrap().len();
    assert_eq!(world.mesh.forwarder(node).is_ok(), starts);
    fs::read_to_string(&log).unwrap()[before..].to_owned()
}

/// Somebody new connects.
fn connects(world: &World, name: &str, service: &str) {
    let next = world.client(0, name, &format!("kernel://{service}/nsm-1"), &[]);
    assert!(pings(next.pod.cell(), &addresses(&next).1[0]));
    crate::world::end(next);
}

fn newer(world: &World) {
    const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
    let pair = pair(world, "b-newer", 0);
    let (mark, index) = (
        pair.flow.now(),
        pair.client.pod.cell().link_index("nsm-1").unwrap(),
    );
    let format = |path: &PathBuf, format: &str| {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert("format", format)
            .unwrap();
        transaction.commit().unwrap();
    };
    let told = with_journal(world, |path| format(path, "2"), false);
    says(
        &told,
        &[
            "has format 2, this version knows 1",
            "run the version that wrote it",
        ],
    );
    with_journal(world, |path| format(path, "1"), true);
    connects(world, "b-newer-2", "b-newer");
    nothing_lost(&pair.flow, mark);
    assert_eq!(pair.client.pod.cell().link_index("nsm-1").unwrap(), index);
    pair.end();
}

fn damaged(world: &World) {
    let pair = pair(world, "b-bits", 0);
    let (mark, index) = (
        pair.flow.now(),
        pair.client.pod.cell().link_index("nsm-1").unwrap(),
    );
    let flip = |path: &PathBuf| {
        let mut all = fs::read(path).unwrap();
        all.iter_mut()
            .skip(4_096)
            .step_by(512)
            .for_each(|byte| *byte ^= 0x10);
        fs::write(path, all).unwrap();
    };
    let cut = |path: &PathBuf| {
        let all = fs::read(path).unwrap();
        fs::write(path, &all[..all.len() / 3]).unwrap();
    };
    let spoils: [&dyn Fn(&PathBuf); 2] = [&flip, &cut];
    for (n, spoil) in spoils.into_iter().enumerate() {
        let told = with_journal(world, spoil, true);
        says(
            &told,
            &[
                "the journal is damaged and was moved aside",
                "left alone until somebody knows them",
            ],
        );
        connects(world, &format!("b-bits-{n}"), "b-bits");
    }
    nothing_lost(&pair.flow, mark);
    assert_eq!(pair.client.pod.cell().link_index("nsm-1").unwrap(), index);
    pair.end();
}

/// Not even root writes where a folder is.
fn unwritable(world: &World) {
    let pair = pair(world, "b-disk", 0);
    let mark = pair.flow.now();
    let away = state(world).join("away");
    let block = |path: &PathBuf| {
        fs::rename(path, &away).unwrap();
        fs::create_dir(path).unwrap();
    };
    let told = with_journal(world, block, true);
    says(
        &told,
        &[
            "the journal cannot be opened",
            "check its folder, permissions and free space",
        ],
    );
    connects(world, "b-disk-2", "b-disk");
    let back = |path: &PathBuf| {
        fs::remove_dir(path).unwrap();
        fs::rename(&away, path).unwrap();
    };
    with_journal(world, back, true);
    connects(world, "b-disk-3", "b-disk");
    nothing_lost(&pair.flow, mark);
    until("one interface", PATIENCE, || {
        links(pair.client.pod.cell()) == ["nsm-1"]
    });
    pair.end();
}
