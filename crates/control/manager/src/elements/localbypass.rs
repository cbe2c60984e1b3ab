//! `localbypass`: others reach a local endpoint through us, we reach it ourselves.
//!
//! *What it does*: sdk `pkg/registry/common/localbypass`: keeps the endpoint's own URL and socket,
//! registers it further up with ours, and gives its own back in the answer.
//! *Where it stands*: after `recvfd`; before `connect`.
//! *On Close*: the endpoint is local no longer, unless the registry says that it is not the
//! caller's.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Call, Code, Element, Endpoints, Error, Next};

use super::recvfd::Socket;
use crate::{Local, Locals};

/// See the module.
#[derive(Debug, Clone)]
pub struct LocalBypass {
    locals: Arc<Locals>,
    own_url: String,
}

impl LocalBypass {
    /// The element of the manager at this URL.
    #[must_use]
    pub fn new(locals: Arc<Locals>, own_url: impl Into<String>) -> Self {
        Self {
            locals,
            own_url: own_url.into(),
        }
    }
}

#[async_trait]
impl Element<Endpoints> for LocalBypass {
    fn name(&self) -> &'static str {
        "localbypass"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        let socket = call
            .scratch
            .get::<Socket>()
            .map(|Socket(inode, socket)| (inode, socket));
        let url = std::mem::replace(&mut endpoint.url, self.own_url.clone());
        let mut answer = next.request(call, endpoint).await?;
        answer.url = url;
        self.locals.insert(Local {
            endpoint: answer.clone(),
            socket,
        });
        Ok(answer)
    }

    async fn close(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<(), Error> {
        self.own_url.clone_into(&mut endpoint.url);
        let name = endpoint.name.clone();
        let closed = next.close(call, endpoint).await;
        let foreign = matches!(&closed, Err(error) if error.code == Code::PermissionDenied);
        if !foreign {
            self.locals.remove(&name);
        }
        closed
    }
}
