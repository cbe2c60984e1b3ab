//! gRPC stubs, one file a service.

use std::fs;

use tonic_build::manual::{Builder, Method, Service};

use crate::Generated;

/// How a method moves its messages.
#[derive(Clone, Copy)]
enum Flow {
    Unary,
    ServerStream,
    BothStream,
}

/// Rust name, wire name, input, output, flow.
type Row = (&'static str, &'static str, &'static str, &'static str, Flow);

struct Stub {
    folder: &'static str,
    file: &'static str,
    name: &'static str,
    package: &'static str,
    codec: &'static str,
    methods: &'static [Row],
}

const RPC: &str = "crates/control/rpc/src/generated";
const IDENTITY: &str = "crates/control/identity/src/generated";
const EMPTY: &str = "::buffa_types::google::protobuf::Empty";
const CODEC: &str = "nsm_identity::codec::BuffaCodec";
const OWN_CODEC: &str = "crate::codec::BuffaCodec";

use Flow::{BothStream, ServerStream, Unary};

const STUBS: [Stub; 7] = [
    Stub {
        folder: RPC,
        file: "network_service.rs",
        name: "NetworkService",
        package: "networkservice",
        codec: CODEC,
        methods: &[
            (
                "request",
                "Request",
                "::nsm_api::networkservice::NetworkServiceRequest",
                "::nsm_api::connection::Connection",
                Unary,
            ),
            (
                "close",
                "Close",
                "::nsm_api::connection::Connection",
                EMPTY,
                Unary,
            ),
        ],
    },
    Stub {
        folder: RPC,
        file: "monitor_connection.rs",
        name: "MonitorConnection",
        package: "connection",
        codec: CODEC,
        methods: &[(
            "monitor_connections",
            "MonitorConnections",
            "::nsm_api::connection::MonitorScopeSelector",
            "::nsm_api::connection::ConnectionEvent",
            ServerStream,
        )],
    },
    Stub {
        folder: RPC,
        file: "service_registry.rs",
        name: "NetworkServiceRegistry",
        package: "registry",
        codec: CODEC,
        methods: &[
            (
                "register",
                "Register",
                "::nsm_api::registry::NetworkService",
                "::nsm_api::registry::NetworkService",
                Unary,
            ),
            (
                "find",
                "Find",
                "::nsm_api::registry::NetworkServiceQuery",
                "::nsm_api::registry::NetworkServiceResponse",
                ServerStream,
            ),
            (
                "unregister",
                "Unregister",
                "::nsm_api::registry::NetworkService",
                EMPTY,
                Unary,
            ),
        ],
    },
    Stub {
        folder: RPC,
        file: "endpoint_registry.rs",
        name: "NetworkServiceEndpointRegistry",
        package: "registry",
        codec: CODEC,
        methods: &[
            (
                "register",
                "Register",
                "::nsm_api::registry::NetworkServiceEndpoint",
                "::nsm_api::registry::NetworkServiceEndpoint",
                Unary,
            ),
            (
                "find",
                "Find",
                "::nsm_api::registry::NetworkServiceEndpointQuery",
                "::nsm_api::registry::NetworkServiceEndpointResponse",
                ServerStream,
            ),
            (
                "unregister",
                "Unregister",
                "::nsm_api::registry::NetworkServiceEndpoint",
                EMPTY,
                Unary,
            ),
        ],
    },
    Stub {
        folder: RPC,
        file: "ipam.rs",
        name: "IPAM",
        package: "ipam",
        codec: CODEC,
        methods: &[(
            "manage_prefixes",
            "ManagePrefixes",
            "::nsm_api::ipam::PrefixRequest",
            "::nsm_api::ipam::PrefixResponse",
            BothStream,
        )],
    },
    Stub {
        folder: IDENTITY,
        file: "workload_api.rs",
        name: "SpiffeWorkloadAPI",
        package: "",
        codec: OWN_CODEC,
        methods: &[
            (
                "fetch_x509_svid",
                "FetchX509SVID",
                "crate::workload::X509SVIDRequest",
                "crate::workload::X509SVIDResponse",
                ServerStream,
            ),
            (
                "fetch_x509_bundles",
                "FetchX509Bundles",
                "crate::workload::X509BundlesRequest",
                "crate::workload::X509BundlesResponse",
                ServerStream,
            ),
            (
                "fetch_jwt_svid",
                "FetchJWTSVID",
                "crate::workload::JWTSVIDRequest",
                "crate::workload::JWTSVIDResponse",
                Unary,
            ),
            (
                "fetch_jwt_bundles",
                "FetchJWTBundles",
                "crate::workload::JWTBundlesRequest",
                "crate::workload::JWTBundlesResponse",
                ServerStream,
            ),
            (
                "validate_jwt_svid",
                "ValidateJWTSVID",
                "crate::workload::ValidateJWTSVIDRequest",
                "crate::workload::ValidateJWTSVIDResponse",
                Unary,
            ),
        ],
    },
    Stub {
        folder: IDENTITY,
        file: "authority_stub.rs",
        name: "Authority",
        package: "nsm.authority",
        codec: OWN_CODEC,
        methods: &[
            (
                "join",
                "Join",
                "crate::authority_api::JoinRequest",
                "crate::authority_api::JoinResponse",
                Unary,
            ),
            (
                "renew",
                "Renew",
                "crate::authority_api::JoinRequest",
                "crate::authority_api::JoinResponse",
                Unary,
            ),
            (
                "mint_jwt",
                "MintJwt",
                "crate::authority_api::MintJwtRequest",
                "crate::authority_api::MintJwtResponse",
                Unary,
            ),
        ],
    },
];

pub(crate) fn generate() -> anyhow::Result<Vec<Generated>> {
    STUBS.iter().map(one).collect()
}

fn one(stub: &Stub) -> anyhow::Result<Generated> {
    let mut service = Service::builder().name(stub.name).package(stub.package);
    for &(name, route, input, output, flow) in stub.methods {
        let mut method = Method::builder()
            .name(name)
            .route_name(route)
            .input_type(input)
            .output_type(output)
            .codec_path(stub.codec);
        if matches!(flow, ServerStream | BothStream) {
            method = method.server_streaming();
        }
        if matches!(flow, BothStream) {
            method = method.client_streaming();
        }
        service = service.method(method.build());
    }
    let out = tempfile::tempdir()?;
    Builder::new()
        .out_dir(out.path())
        .compile(&[service.build()]);
    let written = fs::read_dir(out.path())?
        .next()
        .ok_or_else(|| anyhow::anyhow!("{}: nothing generated", stub.name))??;
    let text = fs::read_to_string(written.path())?;
    Ok((std::path::Path::new(stub.folder).join(stub.file), text))
}
