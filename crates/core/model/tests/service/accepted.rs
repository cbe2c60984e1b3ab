//! What is read.

use expect_test::expect;

use nsm_model::service::load_yaml;

use crate::listings::{KUBERNETES, OLDER, OLDER_NESTED, check, spec};

#[test]
fn both_forms_are_read() {
    check(
        KUBERNETES,
        &expect![[r#"
        secure-intranet-connectivity payload=ETHERNET
          [app=firewall] -> [app=vpn-gateway]*3 -> [app=vpn-gateway,zone={{ .zone }}]*0
          [] -> [nodeName={{ .nodeName }}]*0 fallthrough
          [] metadata[p2p=true]
        plain payload="#]],
    );
    check(
        OLDER,
        &expect![[r#"
        secure-intranet-connectivity payload=IP
          [app=firewall] -> [app=vpn-gateway]*2
          [] -> [app=firewall]*0"#]],
    );
    check(
        OLDER_NESTED,
        &expect![[r#"
        nested payload=
          [app=firewall] -> [app=vpn-gateway]*0"#]],
    );
    // Nothing written is an empty selector, an empty list, no labels.
    check(&spec("  matches:\n"), &expect!["svc payload="]);
    check(
        &spec("  matches:\n  - source_selector:\n    routes:\n    - destination_selector:\n"),
        &expect![[r#"
            svc payload=
              [] -> []*0"#]],
    );
}

/// Maps and files are looked through once, not once for each entry.
#[test]
fn a_large_file_is_read_at_once() {
    const MANY: usize = 40_000;
    let keys: String = (0..MANY).map(|n| format!("        k{n}: v\n")).collect();
    let source = spec(&format!("  matches:\n    - source_selector:\n{keys}"));
    let services = load_yaml(&source).unwrap();
    assert_eq!(services[0].matches[0].source_selector.len(), MANY);
}
