//! Who may be which hop, and what becomes of a hop that comes back as somebody else.

use nsm_chain::{Code, Target};
use nsm_policy::denial::{Counts, Kind};
use nsm_test_support::{Keys, LIFE, spiffe};
use tokio::time::Instant;

use crate::world::{World, by_hand, connect, ids, left, settle, wanted};

/// Its pod has another name after each start; its hop name is the node's.
#[tokio::test(start_paused = true)]
async fn a_hop_that_comes_back_under_another_identity_brings_the_same_ids() {
    let world = World::new();
    let (near, far) = (world.node(1), world.node(2));
    let nse = world.endpoint("nse-far", &far, &[&near]);
    let client = world.client("nsc", &near);
    let session = connect(&client, "nsc-0").await;
    let before = ids(session.connection()).join(" ");
    let (kernel, book) = (near.kernel.clone(), near.book.clone());
    let restarted = |own| {
        world.forwarder(1, own, &near.forwarder, kernel.clone(), book.clone());
    };
    let again = |own| drop(world.manager(1, own, &near.manager, &near.locals));
    let rows: [(&str, &dyn Fn(&'static str)); 4] = [
        ("forwarder-b7x2", &restarted),
        ("manager-k4q9", &again),
        ("forwarder-1", &restarted),
        ("manager/other", &again),
    ];
    for (own, restart) in rows {
        restart(own);
        let session = connect(&client, "nsc-0").await;
        assert_eq!(ids(session.connection()).join(" "), before, "{own}");
    }
    connect(&client, "nsc-0").await.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&far], &[&nse]), [""; 0]);
}

/// Without the role it is somebody else, and is told so.
#[tokio::test(start_paused = true)]
async fn who_holds_no_role_is_no_hop() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    let before = Counts::now();
    for (who, url, allowed, says) in [
        ("nsc", &node.manager, true, ""),
        ("nsc", &node.forwarder, false, "managers alone"),
        ("forwarder-2", &node.forwarder, false, "managers alone"),
        ("manager-2", &node.forwarder, true, ""),
        ("nsc", &nse.url, false, "forwarders and managers alone"),
        ("forwarder-2", &nse.url, true, ""),
    ] {
        let transport = world.wire.transport(Keys::new(who, world.clock));
        let target = Target::Url(url.as_str().into());
        let hop = transport.connect(&target, Instant::now()).await.unwrap();
        world.wire.pipe(url).send_file("/dev/null");
        let asked = hop.request(by_hand(who, "x"), Instant::now() + LIFE).await;
        match asked {
            Ok(_) => assert!(allowed, "{who} at {url}"),
            Err(error) => {
                assert!(!allowed, "{who} at {url}: {error}");
                assert_eq!(
                    error.code,
                    Code::PermissionDenied,
                    "{who} at {url}: {error}"
                );
                assert!(error.message.contains(says), "{error}");
                assert!(error.message.contains(&spiffe(who).to_string()), "{error}");
            }
        }
    }
    assert!(Counts::now().of(Kind::Role) >= before.of(Kind::Role) + 3);
}

/// Somebody else listens where a hop should: nothing is sent there.
#[tokio::test(start_paused = true)]
async fn who_answers_in_a_hops_place_gets_nothing() {
    for (role, says) in [
        ("manager", "where a manager was called"),
        ("forwarder", "where a forwarder was called"),
        ("endpoint", "where endpoint nse-a"),
    ] {
        let world = World::new();
        let node = world.node(1);
        let nse = world.endpoint("nse-a", &node, &[]);
        let mut record = nsm_test_support::endpoint("nse-a", "svc", &nse.url, &[]);
        record.path_ids = vec![spiffe("nse-a").to_string(), spiffe("manager-1").to_string()];
        node.book.add(record);
        let url = match role {
            "manager" => &node.manager,
            "forwarder" => &node.forwarder,
            _ => &nse.url,
        };
        connect(&world.client("nsc", &node), "nsc-0")
            .await
            .close()
            .await
            .unwrap();
        settle().await;
        let chain = node.roles.chain.clone();
        world.wire.attach(url, spiffe("thief"), chain, None);
        let _before = world.wire.take_log();
        let error = world
            .client("nsc", &node)
            .request(&wanted("nsc-1"))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{role}: {error}");
        for part in [says, "spiffe://nsm.test/thief", "nothing is sent"] {
            assert!(error.message.contains(part), "{role}: {error}");
        }
        let log = world.wire.take_log();
        let sent = log.iter().any(|line| line.ends_with(url.as_str()));
        assert!(!sent, "{role}: {log:?}");
    }
}
