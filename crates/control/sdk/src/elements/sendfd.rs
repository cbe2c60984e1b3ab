//! `sendfd`: the descriptor of our own namespace goes to whoever must make an interface in it.
//!
//! *What it does*: sdk `pkg/networkservice/common/mechanisms/sendfd`: holds the own namespace for
//! `connect`, which sends it with a request, and sends it to the caller whose answer speaks of it.
//! A caller that speaks of another one agreed on that with a process before us, of our name and in
//! another pod: nobody has it, and nobody waits for it.
//! *Where it stands*: before `mechanisms` in an endpoint's list, before `connect` in a client's.
//! *On Close*: nothing.

use std::os::fd::AsFd as _;

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Connections, Element, Error, Next,
    elements::{Downstream, Held, inode},
};
use nsm_model::mechanism::{Kind, keys::INODE_URL};

use crate::Namespace;

/// See the module.
#[derive(Debug, Clone)]
pub struct SendFd(Namespace);

impl SendFd {
    /// The element of a process that lives in this namespace.
    #[must_use]
    pub fn new(namespace: Namespace) -> Self {
        Self(namespace)
    }

    /// Takes the namespace out of what was agreed, where it is not ours.
    fn forget_others(&self, connection: &mut Connection) {
        let Some(agreed) = connection.mechanism.as_option_mut() else {
            return;
        };
        if Kind::of(agreed) == Kind::Kernel && inode(agreed) != Some(self.0.inode) {
            agreed.parameters.remove(INODE_URL);
        }
    }
}

#[async_trait]
impl Element<Connections> for SendFd {
    fn name(&self) -> &'static str {
        "sendfd"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        if call.caller.is_some() {
            self.forget_others(request.connection.get_or_insert_default());
        }
        Held::share(call, self.0.inode, self.0.descriptor.clone());
        let first = call.store.get::<Downstream>().is_none();
        let connection = next.request(call, request).await?;
        let wanted = connection.mechanism.as_option().and_then(inode) == Some(self.0.inode);
        let Some(caller) = call.caller.clone().filter(|_| wanted) else {
            return Ok(connection);
        };
        if let Err(error) = caller.descriptors.send(self.0.descriptor.as_fd()) {
            let id = connection.id.clone();
            // A refresh that failed keeps what was.
            if first && let Err(also) = next.close(call, connection).await {
                tracing::warn!(id, %also, "closing what cannot be connected");
            }
            return Err(error);
        }
        Ok(connection)
    }
}
