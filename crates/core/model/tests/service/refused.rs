//! Selectors, forms, keys and types that are refused.

use expect_test::expect;

use crate::listings::{OLDER, check, spec};

#[test]
fn labels_that_are_not_text() {
    // No space after the colon: the selector is a text.
    check(
        &spec("  matches:\n  - source_selector:\n      app:firewall\n    routes: []\n"),
        &expect![[
            r#"line 7: the source selector must be a map, but is the text "app:firewall"; write: app: firewall"#
        ]],
    );
    check(
        &OLDER.replace("app: firewall\n      route", "app:firewall\n      route"),
        &expect![[
            r#"line 11: the source selector must be a map, but is the text "app:firewall"; write: app: firewall"#
        ]],
    );
    // The same beside a good label: not even YAML.
    check(
        &spec(
            "  matches:\n  - source_selector:\n      app: firewall\n      zone:a\n    routes: []\n",
        ),
        &expect![[r#"line 8: "zone:a" has no space after the colon; write: zone: a"#]],
    );
    check(
        &spec(
            "  matches:\n  - source_selector:\n      zone:a\n      app: firewall\n    routes: []\n",
        ),
        &expect![[r#"line 7: "zone:a" has no space after the colon; write: zone: a"#]],
    );
    check(
        &spec(
            "  matches:\n  - source_selector:\n      zone:a\n      app:firewall\n    routes: []\n",
        ),
        &expect![[
            r#"line 7: the source selector must be a map, but is the text "zone:a app:firewall"; write: {zone: a, app: firewall}"#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app:firewall}\n"),
        &expect![[
            r#"line 6: label "app:firewall" of the source selector has no value; write: app: firewall"#
        ]],
    );
    // Unquoted words and numbers that YAML does not take for text.
    check(
        &spec("  matches:\n  - source_selector: {secure: true}\n"),
        &expect![[
            r#"line 6: label "secure" of the source selector must be text, but true is a boolean; write: secure: "true""#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector:\n      secure: yes\n"),
        &expect![[
            r#"line 7: label "secure" of the source selector must be text, but yes is a boolean; write: secure: "yes""#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - destination_selector: {port: 8080}\n"),
        &expect![[
            r#"line 7: label "port" of the destination selector must be text, but 8080 is a number; write: port: "8080""#
        ]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app: }\n"),
        &expect![[r#"line 6: label "app" of the source selector has no value; write: app: """#]],
    );
    check(
        &spec("  matches:\n  - source_selector: {app: [a, b]}\n"),
        &expect![[r#"line 6: label "app" of the source selector must be text, but is a list"#]],
    );
}

#[test]
fn the_forms_are_not_mixed() {
    check(
        &spec("  matches:\n  - source_selector: {a: b}\n    route: []\n"),
        &expect![[
            r#"line 7: "route" is of the older form, but "source_selector" in line 6 is of the Kubernetes form: both forms are mixed; write: routes:"#
        ]],
    );
    check(
        &spec(
            "  matches:\n  - sourceSelector: {a: b}\n    routes:\n    - destination_selector: {a: b}\n",
        ),
        &expect![[
            r#"line 8: "destination_selector" is of the Kubernetes form, but "sourceSelector" in line 6 is of the older form: both forms are mixed; write: destinationSelector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - match:\n    source_selector: {a: b}\n"),
        &expect![[
            r#"line 7: "source_selector" is of the Kubernetes form, but "match" in line 6 is of the older form: both forms are mixed; write: sourceSelector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - match: {sourceSelector: {a: b}}\n    routes: []\n"),
        &expect![[
            r#"line 7: "routes" stands beside "match", which has fields of its own; write: "routes" indented under match:"#
        ]],
    );
    check(
        &spec("  matches:\n  - route: []\n    routes: []\n"),
        &expect![[r#"line 6: "route" and "routes" (line 7) are the same: give one of them"#]],
    );
    check(
        &spec("  matches:\n  - source_selector: {a: b}\n    sourceSelector: {a: b}\n"),
        &expect![[
            r#"line 7: "sourceSelector" is of the older form, but "source_selector" in line 6 is of the Kubernetes form: both forms are mixed; write: source_selector:"#
        ]],
    );
}

#[test]
fn unknown_keys_and_wrong_types() {
    check(
        &spec("  matchs: []\n"),
        &expect![[
            r#"line 5: spec has an unknown key "matchs" (known: name, payload, matches, path_ids); write: matches:"#
        ]],
    );
    check(
        &spec("  matches:\n  - source-selector: {a: b}\n"),
        &expect![[
            r#"line 6: an item of matches has an unknown key "source-selector" (known: match, source_selector, sourceSelector, routes, route, fallthrough, metadata); write: source_selector:"#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weigth: 1\n"),
        &expect![[
            r#"line 7: an item of routes has an unknown key "weigth" (known: destination, destination_selector, destinationSelector, weight); write: weight:"#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - colour: red\n"),
        &expect![[
            r#"line 7: an item of routes has an unknown key "colour" (known: destination, destination_selector, destinationSelector, weight)"#
        ]],
    );
    check(
        &spec("  matches:\n    source_selector: {a: b}\n"),
        &expect!["line 6: spec.matches must be a list, but is a map; write: - source_selector:"],
    );
    check(
        &spec("  matches:\n  - routes:\n      destination_selector: {a: b}\n"),
        &expect!["line 7: routes must be a list, but is a map; write: - destination_selector:"],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weight: -1\n"),
        &expect![[
            r#"line 7: weight must be a whole number from 0 to 4294967295, but is the text "-1""#
        ]],
    );
    check(
        &spec("  matches:\n  - routes:\n    - weight: \"3\"\n"),
        &expect![[r#"line 7: weight must be a number, but is the text "3"; write: 3"#]],
    );
    check(
        &spec("  matches:\n  - fallthrough: True\n"),
        &expect![[
            r#"line 6: fallthrough must be true or false, but is the text "True"; write: true"#
        ]],
    );
    check(
        &spec("  payload: ethernet\n"),
        &expect![[
            r#"line 5: spec.payload "ethernet" must be in capitals; write: payload: ETHERNET"#
        ]],
    );
    check(
        &spec("  payload: [IP]\n"),
        &expect!["line 5: spec.payload must be text, but is a list"],
    );
    check(
        &spec("  payload: IP\n  payload: IP\n"),
        &expect![[r#"line 6: "payload" is given twice: first in line 5"#]],
    );
    check(
        &spec("  name: other\n"),
        &expect![[r#"line 5: spec.name is "other", but metadata.name is "svc"; write: name: svc"#]],
    );
}

#[test]
fn words_that_look_like_numbers() {
    let label = |word: &str| spec(&format!("  matches:\n  - source_selector: {{a: {word}}}\n"));
    for word in [
        "0x@",
        "0x",
        "1.2.3",
        "v1",
        "1e",
        "+",
        ".",
        "inf",
        "nan",
        "2026-01-01",
    ] {
        let services = nsm_model::service::load_yaml(&label(word)).unwrap();
        assert_eq!(services[0].matches[0].source_selector["a"], word);
    }
    for word in [
        "0x1f", "0o17", "-1", "+1.5", ".5", "1e3", ".inf", "-.Inf", ".NaN",
    ] {
        let error = nsm_model::service::load_yaml(&label(word)).unwrap_err();
        assert_eq!(error.hint, Some(format!("a: \"{word}\"")));
    }
}
