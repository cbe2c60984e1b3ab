//! Calls to a peer: each carries the token for it and the deadline, and answers our errors.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::Stream;
use nsm_api::{
    connection::{Connection, ConnectionEvent, MonitorScopeSelector, Path},
    networkservice::NetworkServiceRequest,
    registry::{
        NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery,
        NetworkServiceEndpointResponse, NetworkServiceQuery, NetworkServiceResponse,
    },
};
use nsm_chain::{Code, Error};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    generated::{
        endpoint_registry::network_service_endpoint_registry_client::NetworkServiceEndpointRegistryClient,
        monitor_connection::monitor_connection_client::MonitorConnectionClient,
        network_service::network_service_client::NetworkServiceClient,
        service_registry::network_service_registry_client::NetworkServiceRegistryClient,
    },
    link::{Channel, PeerHandle, origin},
    meta, registered, seen,
    status::from_status,
    tokens::TokenSource,
};

/// `NetworkService.Request`.
///
/// # Errors
/// The peer's, or `Unavailable` when the connection breaks, or `DeadlineExceeded`.
pub async fn request(
    peer: &PeerHandle,
    tokens: &TokenSource,
    request: NetworkServiceRequest,
    deadline: Instant,
) -> Result<Connection, Error> {
    let message = outgoing(peer, tokens, request, Some(deadline))?;
    let call = async move { connections(peer).request(message).await };
    Ok(unary(peer, "Request", deadline, call).await?.into_inner())
}

/// `NetworkService.Close`.
///
/// # Errors
/// As [`request`].
pub async fn close(
    peer: &PeerHandle,
    tokens: &TokenSource,
    connection: Connection,
    deadline: Instant,
) -> Result<(), Error> {
    let message = outgoing(peer, tokens, connection, Some(deadline))?;
    let call = async move { connections(peer).close(message).await };
    unary(peer, "Close", deadline, call).await.map(drop)
}

/// `MonitorConnection.MonitorConnections`: ends with an error when the peer is gone. The deadline
/// is for its beginning alone.
///
/// # Errors
/// As [`request`].
pub async fn monitor(
    peer: &PeerHandle,
    tokens: &TokenSource,
    selector: MonitorScopeSelector,
    deadline: Instant,
) -> Result<Answer<ConnectionEvent>, Error> {
    let message = outgoing(peer, tokens, selector, None)?;
    let mut client = MonitorConnectionClient::with_origin(peer.channel(), origin());
    let call = async move { client.monitor_connections(message).await };
    let answer = unary(peer, "MonitorConnections", deadline, call).await?;
    Ok(Answer::new(peer, answer))
}

fn connections(peer: &PeerHandle) -> NetworkServiceClient<Channel> {
    NetworkServiceClient::with_origin(peer.channel(), origin())
}

/// The registry's two services differ in their messages alone.
macro_rules! registry {
    ($module:ident, $client:ident, $item:ty, $query:ty, $found:ty) => {
        /// One of the registry's two services.
        pub mod $module {
            use super::*;

            fn client(peer: &PeerHandle) -> $client<Channel> {
                $client::with_origin(peer.channel(), origin())
            }

            /// `Register`; `path` goes with it, and comes back as the peer left it. Its answer has
            /// to prove itself, as that of a connection's request.
            ///
            /// # Errors
            /// As [`request`]; and what the answer does not prove.
            pub async fn register(
                peer: &PeerHandle,
                tokens: &TokenSource,
                item: $item,
                path: &mut Path,
                deadline: Instant,
            ) -> Result<$item, Error> {
                let mut message = outgoing(peer, tokens, item, Some(deadline))?;
                meta::put_path(message.metadata_mut(), path)?;
                let call = async move { client(peer).register(message).await };
                let answer = unary(peer, "Register", deadline, call).await?;
                // Which segment is ours is not the peer's to say.
                let own = path.index;
                take_path(&answer, path)?;
                path.index = own;
                let answer = answer.into_inner();
                let names = (answer.name.as_str(), answer.path_ids.as_slice());
                registered::check(peer, tokens, path, names)?;
                Ok(answer)
            }

            /// `Unregister`; `path` as in [`register`].
            ///
            /// # Errors
            /// As [`request`].
            pub async fn unregister(
                peer: &PeerHandle,
                tokens: &TokenSource,
                item: $item,
                path: &mut Path,
                deadline: Instant,
            ) -> Result<(), Error> {
                let mut message = outgoing(peer, tokens, item, Some(deadline))?;
                meta::put_path(message.metadata_mut(), path)?;
                let call = async move { client(peer).unregister(message).await };
                let answer = unary(peer, "Unregister", deadline, call).await?;
                take_path(&answer, path)
            }

            /// `Find`: the stream ends after all that match, or never with `watch` set. Without
            /// `watch` the deadline is for all of it, else for its beginning.
            ///
            /// # Errors
            /// As [`request`].
            pub async fn find(
                peer: &PeerHandle,
                tokens: &TokenSource,
                query: $query,
                deadline: Instant,
            ) -> Result<Answer<$found>, Error> {
                let limit = (!query.watch).then_some(deadline);
                let message = outgoing(peer, tokens, query, limit)?;
                let call = async move { client(peer).find(message).await };
                Ok(Answer::new(
                    peer,
                    unary(peer, "Find", deadline, call).await?,
                ))
            }

            /// `Find` with `watch` set, by a copy that has seen this much already; whether marks
            /// come with the changes, else it is everything.
            ///
            /// # Errors
            /// As [`request`]; `FailedPrecondition` when what changed since is not known any more.
            pub async fn follow(
                peer: &PeerHandle,
                tokens: &TokenSource,
                query: $query,
                seen: &str,
                deadline: Instant,
            ) -> Result<(Answer<$found>, bool), Error> {
                let mut message = outgoing(peer, tokens, query, None)?;
                seen::put(message.metadata_mut(), seen)?;
                let call = async move { client(peer).find(message).await };
                let answer = unary(peer, "Find", deadline, call).await?;
                let marked = seen::get(answer.metadata())?.is_some();
                Ok((Answer::new(peer, answer), marked))
            }
        }
    };
}

registry!(
    services,
    NetworkServiceRegistryClient,
    NetworkService,
    NetworkServiceQuery,
    NetworkServiceResponse
);
registry!(
    endpoints,
    NetworkServiceEndpointRegistryClient,
    NetworkServiceEndpoint,
    NetworkServiceEndpointQuery,
    NetworkServiceEndpointResponse
);

/// A peer's stream of answers; keeps its connection open.
#[derive(Debug)]
pub struct Answer<T> {
    stream: Streaming<T>,
    peer: PeerHandle,
}

impl<T> Answer<T> {
    fn new(peer: &PeerHandle, response: Response<Streaming<T>>) -> Self {
        Self {
            stream: response.into_inner(),
            peer: peer.clone(),
        }
    }

    /// Who answers.
    #[must_use]
    pub fn peer(&self) -> &PeerHandle {
        &self.peer
    }
}

impl<T> Stream for Answer<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.get_mut().stream).poll_next(context);
        next.map_err(|status| from_status(&status))
    }
}

/// A message with the token for this peer, and the time that is left.
///
/// # Errors
/// When there is no time left, or no token can be made.
pub fn outgoing<T>(
    peer: &PeerHandle,
    tokens: &TokenSource,
    message: T,
    deadline: Option<Instant>,
) -> Result<Request<T>, Error> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    if let Some(deadline) = deadline {
        meta::put_deadline(metadata, deadline)?;
    }
    let (to, now) = (peer.peer(), SystemTime::now());
    let token = tokens.token_of(peer.shown(), &to.id, to.not_after, now)?;
    meta::put_token(metadata, &token)?;
    Ok(request)
}

/// Waits for an answer no longer than until the deadline.
async fn unary<T>(
    peer: &PeerHandle,
    what: &str,
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Error> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(answer) => answer.map_err(|status| from_status(&status)),
        Err(_) => Err(Error::new(
            Code::DeadlineExceeded,
            format!(
                "{} at {} did not answer {what} in time",
                peer.peer().id,
                peer.peer().address
            ),
        )),
    }
}

fn take_path<T>(answer: &Response<T>, path: &mut Path) -> Result<(), Error> {
    if let Some(new) = meta::path(answer.metadata())? {
        *path = new;
    }
    Ok(())
}
