//! The outer part of a document, and the characters of a file.

use expect_test::expect;

use crate::listings::{KUBERNETES, check, spec};

#[test]
fn the_outer_part() {
    check("", &expect!["line 1: the file holds no NetworkService"]);
    check(
        "--- \n---\n",
        &expect!["line 1: the file holds no NetworkService"],
    );
    check(
        "kind: NetworkService\n",
        &expect![[
            r#"line 1: the document has no "apiVersion"; write: apiVersion: networkservicemesh.io/v1"#
        ]],
    );
    check(
        "apiversion: networkservicemesh.io/v1\nkind: NetworkService\n",
        &expect![[
            r#"line 1: the document has an unknown key "apiversion" (known: apiVersion); write: apiVersion:"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v2\nkind: NetworkService\n",
        &expect![[
            r#"line 1: apiVersion is "networkservicemesh.io/v2", not one this file may hold; write: apiVersion: networkservicemesh.io/v1"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: Networkservice\n",
        &expect![[
            r#"line 2: kind is "Networkservice", not one this file may hold; write: kind: NetworkService"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata:\n",
        &expect![[
            r#"line 3: the document has no "metadata"; write: metadata: {name: my-service}"#
        ]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata:\n  nam: x\n",
        &expect![[r#"line 4: metadata has an unknown key "nam" (known: name); write: name:"#]],
    );
    check(
        "apiVersion: networkservicemesh.io/v1\nkind: NetworkService\nmetadata: {name: a b}\n",
        &expect![[r#"line 3: metadata.name "a b" contains ' '"#]],
    );
    check(
        &format!("{KUBERNETES}{KUBERNETES}"),
        &expect![[
            r#"line 29: NetworkService "secure-intranet-connectivity" is given twice in this file"#
        ]],
    );
    check(
        "just text\n",
        &expect![[r#"line 1: the document must be a map, but is the text "just text""#]],
    );
}

#[test]
fn what_typesetting_does() {
    check(
        &spec("  matches:\n  - source_selector:\n      app: \u{201c}firewall\u{201d}\n"),
        &expect![[
            r#"line 7: "app: “firewall”" contains a typographic quote; write: app: "firewall""#
        ]],
    );
    check(
        &spec("  matches:\n  \u{2013} source_selector: {a: b}\n"),
        &expect![[
            r#"line 6: "– source_selector: {a: b}" begins with a typographic dash; write: - source_selector: {a: b}"#
        ]],
    );
    check(
        &spec("  matches:\n\t- source_selector: {a: b}\n"),
        &expect![[r#"line 6: "- source_selector: {a: b}" is indented with a tab; write: spaces"#]],
    );
    check(
        &spec("  payload:\u{a0}IP\n"),
        &expect![[r#"line 5: "payload:\u{a0}IP" contains a no-break space; write: payload: IP"#]],
    );
    check(
        &spec("  payload: IP # it\u{2019}s fine in a comment\n"),
        &expect!["svc payload=IP"],
    );
    check(
        &spec("  matches: [\n"),
        &expect!["line 5: not YAML: unclosed bracket '['"],
    );
    check(
        &spec("  matches: &a []\n"),
        &expect!["line 5: anchors (&) and aliases (*) are not read: write the value out"],
    );
    check(
        &spec("  matches: *a\n"),
        &expect!["line 5: not YAML: while parsing node, found unknown anchor"],
    );
    check(
        &spec(&format!("  matches: {}\n", "[".repeat(100))),
        &expect!["line 5: not YAML: unclosed bracket '['"],
    );
    check(
        &spec(&format!(
            "  matches: {}{}\n",
            "[".repeat(100),
            "]".repeat(100)
        )),
        &expect!["line 5: more than 32 levels of nesting"],
    );
    check(
        &" ".repeat(2 << 20),
        &expect!["line 1: the file has 2097152 bytes, at most 1048576 are read"],
    );
}
