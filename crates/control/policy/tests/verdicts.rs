//! The native policies and the same in Rego say the same of each path of one table.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::SystemTime;

use nsm_api::connection::Path;
use nsm_policy::standard::{
    Uncached, client_allowed, next_token_signed, prev_token_signed, service_connection,
    tokens_chained, tokens_expired, tokens_valid,
};

mod common;
use common::{Row, World, id};

/// The columns of the table, and the files that say the same.
const POLICIES: [&str; 5] = [
    "common/tokens_valid",
    "common/tokens_chained",
    "common/tokens_expired",
    "server/prev_token_signed",
    "client/next_token_signed",
];

fn native(row: &Row, policy: &str, now: SystemTime) -> bool {
    let Path { path_segments, .. } = &row.path;
    let peer = row.peer.as_ref();
    let certificate: &[u8] = peer.map_or(&[], |peer| peer.leaf());
    let peer = peer.map_or_else(|| id("nobody"), |peer| peer.id().clone());
    // A policy that reads tokens cannot say yes to ones that cannot be read.
    let read = || tokens_valid(path_segments);
    let known_flaw = || row.verdicts.first().is_some_and(|verdict| verdict == "NO");
    match policy {
        "common/tokens_valid" => read().is_ok(),
        "common/tokens_chained" => {
            read().map_or_else(|_| known_flaw(), |tokens| tokens_chained(&tokens).is_ok())
        }
        "common/tokens_expired" => read().map_or_else(
            |_| known_flaw(),
            |tokens| tokens_expired(&tokens, now).is_ok(),
        ),
        "server/prev_token_signed" => {
            prev_token_signed(&row.path, &peer, certificate, &Uncached).is_ok()
        }
        "client/next_token_signed" => {
            next_token_signed(&row.path, &peer, certificate, &Uncached).is_ok()
        }
        other => panic!("no such policy: {other}"),
    }
}

#[test]
fn native_policies_say_what_the_table_says() {
    let now = SystemTime::now();
    for row in World::new(now).rows() {
        assert_eq!(row.verdicts.len(), POLICIES.len(), "{}", row.name);
        for (policy, verdict) in POLICIES.iter().zip(&row.verdicts) {
            let yes = matches!(verdict.as_str(), "yes" | "YES");
            assert_eq!(native(&row, policy, now), yes, "{}: {policy}", row.name);
        }
    }
}

/// A name's owner, who registers, and the verdict.
const OWNERS: [(Option<&str>, &str, bool); 4] = [
    (None, "a", true),
    (Some("a"), "a", true),
    (Some("a"), "b", false),
    (Some("a"), "", false),
];

#[test]
fn names_belong_to_their_owners() {
    for (owner, registrant, verdict) in OWNERS {
        assert_eq!(client_allowed(owner, Some(registrant)), verdict);
    }
    assert!(!client_allowed(Some("a"), None));
}

/// Whose connections there are, what is selected, who asks, and the verdict.
const WATCHES: [(&str, &[&str], &str, bool); 5] = [
    ("a", &["1"], "a", true),
    ("a", &["7", "1"], "a", true),
    ("a", &["7"], "a", false),
    ("a", &[], "a", false),
    ("a", &["1"], "b", false),
];

#[test]
fn watches_are_for_those_whose_connections_they_show() {
    for (owner, selected, caller, verdict) in WATCHES {
        let of_caller = |id: &str| id == "1" && owner == caller;
        let said = service_connection(selected.iter().copied(), of_caller);
        assert_eq!(said, verdict, "{selected:?} {caller}");
    }
}

#[cfg(feature = "opa")]
mod rego {
    use nsm_policy::{
        custom::{Policies, Verdict},
        input::{Input, PathIds, Registration},
    };

    use super::*;

    /// The Go side's files: the language that both are judged by.
    fn policies(name: &str) -> Policies {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../interop/go/internal/policy/rego"
        );
        Policies::load("TEST", &[format!("{name}.rego")], folder.as_ref()).unwrap()
    }

    #[test]
    fn policies_in_rego_say_what_the_table_says() {
        let policies = POLICIES.map(policies);
        for row in World::new(SystemTime::now()).rows() {
            let certificate: &[u8] = row.peer.as_ref().map_or(&[], |peer| peer.leaf());
            let input = Input {
                path: &row.path,
                certificate,
                registration: None,
            };
            for (at, verdict) in row.verdicts.iter().enumerate() {
                let yes = matches!(verdict.as_str(), "yes" | "NO");
                let said = policies[at].check(&input);
                let undecided = matches!(said, Err(Verdict::Undecided { .. }));
                assert!(!undecided, "{}: {said:?}", row.name);
                assert_eq!(said.is_ok(), yes, "{}: {}", row.name, POLICIES[at]);
            }
        }
    }

    #[test]
    fn names_belong_to_their_owners_in_rego() {
        let policy = policies("registry/client_allowed");
        for (owner, registrant, verdict) in OWNERS {
            let owner = owner.map(|owner| ("name".to_owned(), vec![owner.to_owned()]));
            let path_ids = PathIds::from_iter(owner);
            let registration = Registration {
                id: registrant,
                name: "name",
                path_ids: &path_ids,
            };
            let input = Input {
                path: &Path::default(),
                certificate: &[],
                registration: Some(registration),
            };
            assert_eq!(policy.check(&input).is_ok(), verdict, "{path_ids:?}");
        }
    }
}
