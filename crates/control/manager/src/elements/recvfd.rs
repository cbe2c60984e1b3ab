//! `recvfd`: the socket that an endpoint registers comes as a descriptor.
//!
//! *What it does*: sdk `pkg/registry/common/recvfd`: an `inode://` URL is that of a socket whose
//! descriptor the endpoint sends beside its call, since nobody else can see the socket's name.
//! *Where it stands*: before `localbypass`, which keeps it.
//! *On Close*: nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Call, Code, Element, Endpoints, Error, Next};
use nsm_model::url::{EndpointUrl, InodeUrl};
use std::os::fd::OwnedFd;
use tokio::time::Instant;

/// How long the descriptor may come after its call.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket of the endpoint that registers.
#[derive(Debug, Clone)]
pub(crate) struct Socket(pub(crate) InodeUrl, pub(crate) Arc<OwnedFd>);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct RecvFd;

#[async_trait]
impl Element<Endpoints> for RecvFd {
    fn name(&self) -> &'static str {
        "recvfd"
    }

    async fn request(
        &self,
        call: &mut Call,
        endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        if let (EndpointUrl::Inode(inode), Some(caller)) =
            (EndpointUrl::parse(&endpoint.url), &call.caller)
        {
            let deadline = call.deadline.min(Instant::now() + PATIENCE);
            let socket = caller
                .descriptors
                .receive(inode, deadline)
                .await
                .map_err(|error| {
                    let message = format!("endpoint {}: url {inode}: {error}", endpoint.name);
                    Error::new(Code::InvalidArgument, message)
                })?;
            call.scratch.put(Socket(inode, Arc::new(socket)));
        }
        let answer = next.request(call, endpoint).await;
        call.scratch.take::<Socket>();
        answer
    }
}
