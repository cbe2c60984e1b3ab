//! Messages in which everything is set, fields that we do not know included.

use buffa::{Message as _, MessageField, UnknownFields};
use nsm_api::{
    connection::{Connection, Mechanism, Path, PathSegment},
    connectioncontext::{
        ConnectionContext, DNSConfig, DNSContext, EthernetContext, ExtraPrefixRequest, IPContext,
        IpNeighbor, PolicyRoute, Route,
    },
    networkservice::NetworkServiceRequest,
    registry::{Match, NetworkService, NetworkServiceEndpoint, NetworkServiceLabels},
};

/// A field that no message of ours has: number 99, varint, with this value.
#[must_use]
pub fn unknown(value: u8) -> UnknownFields {
    let bytes = [0x98, 0x06, value & 0x7f];
    Path::decode_from_slice(&bytes)
        .unwrap()
        .__buffa_unknown_fields
}

/// A connection as its client sends it first: one segment, of the client.
#[must_use]
pub fn order(client: &str, id: &str, service: &str, mechanism: Mechanism) -> NetworkServiceRequest {
    let segment = PathSegment {
        name: client.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    };
    let connection = Connection {
        id: id.to_owned(),
        network_service: service.to_owned(),
        path: MessageField::some(Path {
            path_segments: vec![segment],
            ..Default::default()
        }),
        ..Default::default()
    };
    NetworkServiceRequest {
        connection: MessageField::some(connection),
        mechanism_preferences: vec![mechanism],
        ..Default::default()
    }
}

fn mechanism(kind: &str, value: u8) -> Mechanism {
    Mechanism {
        cls: "LOCAL".to_owned(),
        r#type: kind.to_owned(),
        parameters: [("unheard".to_owned(), "of".to_owned())].into(),
        __buffa_unknown_fields: unknown(value),
    }
}

fn context() -> ConnectionContext {
    let route = Route {
        prefix: "10.9.0.0/16".to_owned(),
        nextHop: "10.0.0.1".to_owned(),
        __buffa_unknown_fields: unknown(10),
    };
    let neighbour = IpNeighbor {
        ip: "10.0.0.9".to_owned(),
        hardware_address: "02:00:00:00:00:09".to_owned(),
        __buffa_unknown_fields: unknown(11),
    };
    let policy = PolicyRoute {
        from: "10.1.0.0/16".to_owned(),
        routes: vec![route.clone()],
        __buffa_unknown_fields: unknown(12),
        ..Default::default()
    };
    let ip = IPContext {
        src_ip_required: true,
        dst_ip_required: true,
        src_routes: vec![route.clone()],
        dst_routes: vec![route],
        excluded_prefixes: vec!["10.8.0.0/16".to_owned()],
        ip_neighbors: vec![neighbour],
        extra_prefix_request: vec![ExtraPrefixRequest::default()],
        extra_prefixes: vec!["10.7.0.0/16".to_owned()],
        policies: vec![policy],
        __buffa_unknown_fields: unknown(13),
        ..Default::default()
    };
    let dns = DNSConfig {
        dns_server_ips: vec!["10.0.0.53".to_owned()],
        search_domains: vec!["example.org".to_owned()],
        __buffa_unknown_fields: unknown(14),
    };
    ConnectionContext {
        ip_context: MessageField::some(ip),
        dns_context: MessageField::some(DNSContext {
            configs: vec![dns],
            __buffa_unknown_fields: unknown(15),
        }),
        ethernet_context: MessageField::some(EthernetContext {
            __buffa_unknown_fields: unknown(16),
            ..Default::default()
        }),
        extra_context: [("extra".to_owned(), "kept".to_owned())].into(),
        MTU: 1400,
        __buffa_unknown_fields: unknown(17),
    }
}

/// A connection at the second of two segments with everything set.
#[must_use]
pub fn full_connection(id: &str, service: &str) -> Connection {
    let segment = |name: &str, id: &str, value: u8| PathSegment {
        name: name.to_owned(),
        id: id.to_owned(),
        metrics: [("counted".to_owned(), "1".to_owned())].into(),
        __buffa_unknown_fields: unknown(value),
        ..Default::default()
    };
    Connection {
        id: id.to_owned(),
        network_service: service.to_owned(),
        mechanism: MessageField::some(mechanism("KERNEL", 1)),
        context: MessageField::some(context()),
        labels: [("app".to_owned(), "test".to_owned())].into(),
        path: MessageField::some(Path {
            path_segments: vec![segment("before", "before-id", 2), segment("own", id, 3)],
            index: 1,
            __buffa_unknown_fields: unknown(4),
        }),
        network_service_endpoint_name: "chosen".to_owned(),
        payload: "ETHERNET".to_owned(),
        __buffa_unknown_fields: unknown(5),
        ..Default::default()
    }
}

/// A request for [`full_connection`].
#[must_use]
pub fn full_request(id: &str, service: &str) -> NetworkServiceRequest {
    NetworkServiceRequest {
        connection: MessageField::some(full_connection(id, service)),
        mechanism_preferences: vec![mechanism("KERNEL", 6), mechanism("UNHEARD-OF", 7)],
        __buffa_unknown_fields: unknown(8),
    }
}

/// A service with everything set.
#[must_use]
pub fn full_service(name: &str) -> NetworkService {
    NetworkService {
        name: name.to_owned(),
        payload: "ETHERNET".to_owned(),
        matches: vec![Match {
            fallthrough: true,
            __buffa_unknown_fields: unknown(20),
            ..Default::default()
        }],
        path_ids: vec!["spiffe://nsm.test/before".to_owned()],
        __buffa_unknown_fields: unknown(21),
    }
}

/// An endpoint with everything set.
#[must_use]
pub fn full_endpoint(name: &str) -> NetworkServiceEndpoint {
    let labels = NetworkServiceLabels {
        labels: [("app".to_owned(), "test".to_owned())].into(),
        __buffa_unknown_fields: unknown(30),
    };
    NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec!["svc".to_owned()],
        network_service_labels: [("svc".to_owned(), labels)].into(),
        url: "tcp://10.0.0.2:5001".to_owned(),
        path_ids: vec!["spiffe://nsm.test/before".to_owned()],
        __buffa_unknown_fields: unknown(31),
        ..Default::default()
    }
}
