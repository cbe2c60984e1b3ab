//! `clienturl`: where a client's calls go: to its node's manager.
//!
//! *What it does*: sdk `pkg/networkservice/common/clienturl`. Who answers there must hold the
//! manager's role.
//! *Where it stands*: before `connect`.
//! *On Close*: the same, so that what was asked for and never answered is closed as well.

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Call, Connections, Element, Error, Expected, Next, Target};
use nsm_policy::roles::{Role, RoleSource};

/// See the module.
#[derive(Debug, Clone)]
pub struct ToManager {
    manager: Target,
    expected: Expected,
}

impl ToManager {
    /// The element of a process whose manager is there.
    #[must_use]
    pub fn new(manager: Target, roles: &RoleSource) -> Self {
        Self {
            manager,
            expected: Expected::role(roles, &[Role::Manager]),
        }
    }

    fn choose(&self, call: &Call) {
        call.scratch.put(self.manager.clone());
        call.scratch.put(self.expected.clone());
    }
}

#[async_trait]
impl Element<Connections> for ToManager {
    fn name(&self) -> &'static str {
        "clienturl"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        self.choose(call);
        next.request(call, request).await
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        self.choose(call);
        next.close(call, connection).await
    }
}
