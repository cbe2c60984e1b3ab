//! What is read.

use expect_test::expect;

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
