//! `mechanisms`: an endpoint's own side: an interface in its namespace.
//!
//! *What it does*: sdk `pkg/networkservice/common/mechanisms` with `kernel`: of the caller's
//! preferences KERNEL is taken, and the answer says which namespace and which interface. One that
//! was agreed before keeps its name: this process may have been restarted with its interfaces in
//! place.
//! *Where it stands*: after `ipam`; the last but for what passes a connection on.
//! *On Close*: nothing.

use async_trait::async_trait;
use buffa::MessageField;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Call, Code, Connections, Element, Error, Next, Own};
use nsm_model::{
    ifname::IfName,
    mechanism::{Kernel, Kind},
};

use crate::Namespace;

/// See the module.
#[derive(Debug, Clone)]
pub struct Mechanisms {
    namespace: Namespace,
    bare: bool,
}

impl Mechanisms {
    /// The element of an endpoint in this namespace; `bare` interfaces get no addresses and routes.
    #[must_use]
    pub fn new(namespace: Namespace, bare: bool) -> Self {
        Self { namespace, bare }
    }

    /// The name of the interface that is in our namespace for this connection already.
    fn agreed(&self, request: &NetworkServiceRequest) -> Option<IfName> {
        let agreed = Kernel::parse(request.connection.mechanism.as_option()?).ok()?;
        let ours = agreed.netns == Some(self.namespace.inode) && !self.bare;
        agreed.name.filter(|_| ours)
    }

    fn accepts(request: &NetworkServiceRequest) -> Result<(), Error> {
        let connection = &request.connection;
        let agreed = connection
            .mechanism
            .as_option()
            .filter(|mechanism| !mechanism.r#type.is_empty());
        let offered: Vec<_> = match agreed {
            Some(mechanism) => vec![mechanism],
            None => request.mechanism_preferences.iter().collect(),
        };
        if offered
            .iter()
            .any(|mechanism| Kind::of(mechanism) == Kind::Kernel)
        {
            return Ok(());
        }
        let names: Vec<&str> = offered
            .iter()
            .map(|mechanism| mechanism.r#type.as_str())
            .collect();
        let message = format!(
            "connection {}: no common mechanism: it asks for [{}], this endpoint has KERNEL",
            connection.id,
            names.join(", ")
        );
        Err(Error::new(Code::Unimplemented, message))
    }
}

#[async_trait]
impl Element<Connections> for Mechanisms {
    fn name(&self) -> &'static str {
        "mechanisms"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        Self::accepts(&request)?;
        let generated = IfName::generate(
            &request.connection.network_service,
            &Own::of(call)?.digest(),
            0,
        );
        let name = self.agreed(&request).unwrap_or(generated);
        let said = Kernel {
            netns: Some(self.namespace.inode),
            name: Some(name),
            bare: self.bare,
        };
        let mut connection = next.request(call, request).await?;
        connection.mechanism = MessageField::some(said.mechanism());
        Ok(connection)
    }
}
