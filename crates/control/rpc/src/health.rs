//! grpc.health.v1: who serves what.

use nsm_chain::{Code, Error};
use tokio::time::Instant;
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest,
        health_check_response::ServingStatus as Answer,
        health_client::HealthClient,
        health_server::{Health, HealthServer},
    },
};

use crate::{
    link::{PeerHandle, origin},
    status::from_status,
};

/// SERVING for "" and for each gRPC service name.
pub(crate) async fn server(names: &[&'static str]) -> HealthServer<impl Health> {
    let (reporter, server) = tonic_health::server::health_reporter();
    for name in names {
        reporter
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    server
}

/// Whether the peer serves this gRPC service ("" for the process as a whole).
///
/// # Errors
/// `Unavailable` when it says that it does not serve; else the call's.
pub async fn check(peer: &PeerHandle, service: &str, deadline: Instant) -> Result<(), Error> {
    let mut client = HealthClient::with_origin(peer.channel(), origin());
    let question = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = tokio::time::timeout_at(deadline, client.check(question)).await;
    let who = &peer.peer().id;
    let answer = answer
        .map_err(|_| {
            Error::new(
                Code::DeadlineExceeded,
                format!("{who} did not say in time whether it serves"),
            )
        })?
        .map_err(|status| from_status(&status))?
        .into_inner();
    if answer.status() == Answer::Serving {
        return Ok(());
    }
    let message = format!(
        "{who} says {} for service {service:?}",
        answer.status().as_str_name()
    );
    Err(Error::new(Code::Unavailable, message))
}
