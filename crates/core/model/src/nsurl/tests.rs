//! Cases of [`super`]: a table for each rule of `nsurl`.

use proptest::prelude::*;

use super::*;

#[test]
fn urls_are_read() {
    // (url, service, interface, labels, printed)
    let rows = [
        (
            "kernel://my-service@cluster2/nsm-1?app=fw",
            "my-service@cluster2",
            "nsm-1",
            "app=fw",
            "",
        ),
        ("kernel://vpn/nsm-1", "vpn", "nsm-1", "", ""),
        ("kernel://vpn", "vpn", "", "", ""),
        ("kernel://vpn/", "vpn", "", "", "kernel://vpn"),
        (
            "KERNEL://vpn/a/b/nsm-1",
            "vpn",
            "nsm-1",
            "",
            "kernel://vpn/nsm-1",
        ),
        (
            "memif://vpn/m?b=2&a=1&b=3",
            "vpn",
            "m",
            "a=1;b=2,3",
            "memif://vpn/m?a=1&b=2%2C3",
        ),
        (
            "kernel://vpn?a=x+y%3D&flag",
            "vpn",
            "",
            "a=x y=;flag=",
            "kernel://vpn?a=x%20y%3D&flag=",
        ),
        (
            "kernel://my%2Dsvc/nsm%2d1",
            "my-svc",
            "nsm-1",
            "",
            "kernel://my-svc/nsm-1",
        ),
    ];
    for (text, service, interface, labels, printed) in rows {
        let url: NsUrl = text.parse().unwrap();
        assert_eq!(url.service.to_string(), service, "{text}");
        assert_eq!(
            url.interface.as_ref().map_or("", IfName::as_str),
            interface,
            "{text}"
        );
        let found: Vec<_> = url.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(found.join(";"), labels, "{text}");
        assert_eq!(
            url.to_string(),
            if printed.is_empty() { text } else { printed }
        );
        assert_eq!(url.to_string().parse::<NsUrl>().unwrap(), url);
    }
}

#[test]
fn refusals_name_the_field() {
    for (text, says) in [
        ("vpn/nsm-1", "scheme: is missing: write kernel://"),
        (
            "kernal://vpn",
            "scheme: mechanism \"kernal\" is unknown: use one of kernel",
        ),
        (
            "vxlan://vpn",
            "scheme: mechanism \"vxlan\" is between nodes",
        ),
        ("kernel:///nsm-1", "service: is empty"),
        ("kernel://@d/nsm-1", "service: is empty"),
        ("kernel://vpn@/nsm-1", "service: \"vpn@\" has no domain"),
        ("kernel://my vpn/nsm-1", "service: \"my vpn\" contains ' '"),
        (
            "kernel://vpn/this-name-is-too-long",
            "interface: interface name \"this-name-is-too-long\" has 21 bytes",
        ),
        (
            "kernel://vpn/a%2Fb",
            "interface: interface name \"a/b\" contains '/'",
        ),
        (
            "kernel://vpn/n?a=%zz",
            "labels: \"%zz\" has a broken %-escape at position 0",
        ),
        ("kernel://vpn/n?a=%ff", "labels: \"%ff\" is not UTF-8"),
        ("kernel://vpn/n?=x", "labels: \"=x\" has no name before '='"),
        (
            "kernel://vpn/n#x",
            "labels: '#' at position 14 is not allowed",
        ),
    ] {
        let error = text.parse::<NsUrl>().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("network service URL {text:?}: ")),
            "{error}"
        );
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn request_parts() {
    let (mechanism, service, labels) = "kernel://vpn@d/nsm-1?app=fw"
        .parse::<NsUrl>()
        .unwrap()
        .into_request_parts();
    assert_eq!(
        (mechanism.cls.as_str(), mechanism.r#type.as_str()),
        ("LOCAL", "KERNEL")
    );
    assert_eq!(mechanism.parameters["name"], "nsm-1");
    assert_eq!(mechanism.parameters.len(), 1);
    assert_eq!((service.as_str(), labels["app"].as_str()), ("vpn@d", "fw"));
}

#[test]
fn a_list_of_several() {
    let list = NsUrl::parse_list(" kernel://a/x, kernel://b/y?l=1,").unwrap();
    assert_eq!(
        list.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["kernel://a/x", "kernel://b/y?l=1"]
    );
    assert!(NsUrl::parse_list("kernel://a,b").is_err());
}

proptest! {
    #[test]
    fn printing_loses_nothing(service in "[a-z%&=+ü.-]{1,12}(@[a-z@%&=.-]{1,8})?", name in "[a-zA-Z0-9._?&%-]{0,15}", key in "\\PC{1,6}", value in "\\PC{0,6}") {
        let service = DomainName::parse(&service);
        let url = NsUrl {
            mechanism: Kind::Kernel,
            service,
            interface: name.parse().ok(),
            labels: [(key, value)].into(),
        };
        prop_assert_eq!(url.to_string().parse::<NsUrl>().unwrap(), url);
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = text.parse::<NsUrl>();
    }
}
