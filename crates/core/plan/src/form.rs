//! The form in which plans are kept: what a later version has to read.

use expect_test::expect;

use crate::tests::{plan, tunnel, workload};
use crate::{Plan, Side};

#[test]
fn the_kept_form_of_a_plan_is_this() {
    let plan = plan(Side::Kernel(workload()), tunnel("192.0.2.2"));
    let rows = plan.entries().iter();
    let rows: String = rows
        .map(|entry| serde_json::to_string(entry).unwrap() + "\n")
        .collect();
    expect![[r#"
        {"id":{"key":"abababababababababababababababab","role":"client","what":"link"},"after":[],"owners":["abababababababababababababababab"],"resource":{"link":{"vxlan":{"end":{"role":"client","netns":{"id":{"dev":4,"ino":202}},"name":"nsm-e","index":28027819,"mac":"02:00:00:00:00:01","mtu":1500,"alias":"nsm1:abababababababababababababababab:c","bare":false},"tunnel":{"local":"192.0.2.1","remote":"192.0.2.2","port":4789,"vni":77}}}}}
        {"id":{"key":"abababababababababababababababab","role":"client","what":{"sysctl":"ipv6/conf/nsm-e/disable_ipv6"}},"after":[{"key":"abababababababababababababababab","role":"client","what":"link"}],"owners":["abababababababababababababababab"],"resource":{"sysctl":{"netns":{"id":{"dev":4,"ino":202}},"path":"ipv6/conf/nsm-e/disable_ipv6","value":"0"}}}
        {"id":{"key":"abababababababababababababababab","role":"client","what":{"address":"10.0.0.0/32"}},"after":[{"key":"abababababababababababababababab","role":"client","what":"link"}],"owners":["abababababababababababababababab"],"resource":{"address":{"netns":{"id":{"dev":4,"ino":202}},"name":"nsm-e","index":28027819,"net":"10.0.0.0/32"}}}
        {"id":{"key":"abababababababababababababababab","role":"client","what":{"address":"fd00::/128"}},"after":[{"key":"abababababababababababababababab","role":"client","what":"link"}],"owners":["abababababababababababababababab"],"resource":{"address":{"netns":{"id":{"dev":4,"ino":202}},"name":"nsm-e","index":28027819,"net":"fd00::/128"}}}
        {"id":{"key":"abababababababababababababababab","role":"client","what":{"route":"192.0.2.0/24"}},"after":[{"key":"abababababababababababababababab","role":"client","what":"link"},{"key":"abababababababababababababababab","role":"client","what":{"address":"10.0.0.0/32"}}],"owners":["abababababababababababababababab"],"resource":{"route":{"netns":{"id":{"dev":4,"ino":202}},"name":"nsm-e","index":28027819,"destination":"192.0.2.0/24","via":"10.0.0.1"}}}
        {"id":{"key":"abababababababababababababababab","role":"client","what":{"neighbour":"10.0.0.1"}},"after":[{"key":"abababababababababababababababab","role":"client","what":"link"}],"owners":["abababababababababababababababab"],"resource":{"neighbour":{"netns":{"id":{"dev":4,"ino":202}},"name":"nsm-e","index":28027819,"address":"10.0.0.1","mac":"02:00:00:00:00:02"}}}
    "#]].assert_eq(&rows);
    let kept = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&kept).unwrap(), plan);
}

#[test]
fn what_is_no_plan_is_refused_by_name() {
    let plan = plan(Side::Kernel(workload()), tunnel("192.0.2.2"));
    let kept = serde_json::to_string(&plan).unwrap();
    let rows = [
        ("\"vni\":77", "\"vni\":0", "VNI \"0\" is not a number"),
        ("\"mtu\":1500", "\"mtu\":7", "MTU \"7\" is not a number"),
        ("\"nsm-e\"", "\"a/b\"", "contains '/'"),
        ("02:00:00:00:00:01", "02:00", "mac \"02:00\" is no hardware"),
        ("\"abab", "\"zbab", "is not 32 hexadecimal digits"),
        ("\"vxlan\"", "\"gre\"", "unknown variant `gre`"),
    ];
    for (from, to, says) in rows {
        assert!(kept.contains(from), "{from}");
        let error = serde_json::from_str::<Plan>(&kept.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
