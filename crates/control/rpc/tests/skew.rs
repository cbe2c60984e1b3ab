//! What a peer's metadata says of a token's end counts for no more than what the token says.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nsm_chain::Token;
use nsm_rpc::{
    Server, client::outgoing,
    generated::network_service::network_service_client::NetworkServiceClient, meta, origin,
};
use support::{Caller, does, id, identity, request, serve, soon, unix};

/// Seconds since 1970 at which the role says that the caller's token ends.
async fn lease(signed: SystemTime, said: SystemTime) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new().connections(does(|call, request| {
        let ends = call.token.as_ref().map(|token| token.expires);
        Box::pin(async move {
            let mut connection = request.connection.into_option().unwrap_or_default();
            let ends = ends.unwrap().duration_since(UNIX_EPOCH).unwrap();
            connection.payload = ends.as_secs().to_string();
            Ok(connection)
        })
    }));
    let running = serve("server", &[unix(folder.path())], server).await;
    let caller = Caller::new("client");
    let peer = caller.pool.connect(&running.addresses[0], None, soon());
    let peer = peer.await.unwrap();
    let jwt = identity("client")
        .signer()
        .sign(&id("client"), &id("server"), signed)
        .unwrap();
    let mut message = outgoing(&peer, &caller.tokens, request("x"), Some(soon())).unwrap();
    let token = Token {
        jwt,
        expires: said,
        left: None,
    };
    meta::put_token(message.metadata_mut(), &token).unwrap();
    let mut client = NetworkServiceClient::with_origin(peer.channel(), origin());
    let answer = client.request(message).await.unwrap().into_inner();
    answer.payload.parse().unwrap()
}

#[tokio::test]
async fn a_lease_ends_no_later_than_the_signed_token() {
    let now = SystemTime::now();
    let at = |seconds: i64| match u64::try_from(seconds) {
        Ok(ahead) => now + Duration::from_secs(ahead),
        Err(_) => now - Duration::from_secs(seconds.unsigned_abs()),
    };
    let second = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (signed, said, ends) in [
        (600, 600, 600),
        // Cut to the end of a certificate, as upstream does.
        (600, 60, 60),
        // Beyond what is signed.
        (600, 36_000, 600),
        // Clocks that are ten minutes off, either way.
        (1_200, 1_200, 1_200),
        (-600, -600, -600),
        (-600, 600, -600),
    ] {
        let counted = lease(at(signed), at(said)).await;
        assert_eq!(counted, second(at(ends)), "{signed} signed, {said} said");
    }
}
