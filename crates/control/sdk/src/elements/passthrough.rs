//! `passthrough`: a function in the middle of a chain asks for what comes after it.
//!
//! *What it does*: sdk `pkg/networkservice/common/passthrough`: the connection goes on with our own
//! labels in place of the client's, so that the service's matches choose the next function; the
//! answer's addresses, routes and MTU go back to the client unchanged. Both interfaces are joined
//! in our namespace. Where we went on to another endpoint meanwhile, whoever asks with what it had
//! of the one before is given what was agreed since.
//! *Where it stands*: after `mechanisms`; before `connect`.
//! *On Close*: the two are parted, whatever fails further down.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use buffa::MessageField;
use nsm_api::{
    connection::{Connection, Mechanism, State},
    connectioncontext::IPContext,
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Connections, Element, Error, Next, Own, elements::Downstream};
use nsm_model::{ifname::IfName, mechanism::Kernel};

use crate::Namespace;

/// The two interfaces of a connection that passes through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Joined {
    /// The connection's own id here.
    pub id: String,
    /// Towards whoever asked.
    pub near: IfName,
    /// Towards the next function.
    pub far: IfName,
}

/// Joins interfaces so that packets pass, and parts them.
#[async_trait]
pub trait Joiner: Send + Sync {
    /// Joins two interfaces, now or as soon as they are there. Joining again is no error.
    ///
    /// # Errors
    /// They cannot be joined.
    async fn join(&self, joined: Joined) -> Result<(), Error>;

    /// Parts them; what is gone already is no error.
    ///
    /// # Errors
    /// They cannot be parted.
    async fn part(&self, id: &str) -> Result<(), Error>;
}

/// What was agreed with the next function.
#[derive(Debug, Clone)]
struct Far {
    endpoint: String,
    mechanism: Mechanism,
    ip: IPContext,
}

/// What whoever asks knows: as which endpoint it asked, and with what it was answered last. What we
/// ask for ourselves comes without either.
#[derive(Debug, Clone)]
struct Near {
    endpoint: String,
    ip: IPContext,
}

/// See the module.
pub struct Passthrough {
    namespace: Namespace,
    labels: BTreeMap<String, String>,
    joiner: Arc<dyn Joiner>,
}

impl std::fmt::Debug for Passthrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Passthrough({:?})", self.labels)
    }
}

impl Passthrough {
    /// The element of a function with these labels.
    #[must_use]
    pub fn new(
        namespace: Namespace,
        labels: BTreeMap<String, String>,
        joiner: Arc<dyn Joiner>,
    ) -> Self {
        Self {
            namespace,
            labels,
            joiner,
        }
    }

    fn far_name(call: &Call, service: &str) -> Result<IfName, Error> {
        Ok(IfName::generate(service, &Own::of(call)?.digest(), 1))
    }

    fn near_name(call: &Call, service: &str) -> Result<IfName, Error> {
        Ok(IfName::generate(service, &Own::of(call)?.digest(), 0))
    }
}

/// Who asks, and as which endpoint: brought up to date where it asks with addresses of an endpoint
/// that we have left.
fn near(call: &Call, connection: &mut Connection) -> Near {
    let known = call.store.get::<Near>();
    if call.caller.is_none()
        && let Some(known) = known
    {
        return known;
    }
    let endpoint = connection.network_service_endpoint_name.clone();
    let context = connection.context.get_or_insert_default();
    let ip = context.ip_context.get_or_insert_default();
    if let (Some(known), Some(far)) = (known, call.store.get::<Far>())
        && same_addresses(ip, &known.ip)
        && !same_addresses(ip, &far.ip)
    {
        let excluded = std::mem::take(&mut ip.excluded_prefixes);
        *ip = IPContext {
            excluded_prefixes: excluded,
            ..far.ip
        };
    }
    let ip = ip.clone();
    Near { endpoint, ip }
}

fn same_addresses(one: &IPContext, other: &IPContext) -> bool {
    one.src_ip_addrs == other.src_ip_addrs && one.dst_ip_addrs == other.dst_ip_addrs
}

#[async_trait]
impl Element<Connections> for Passthrough {
    fn name(&self) -> &'static str {
        "passthrough"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let connection = request.connection.get_or_insert_default();
        let service = connection.network_service.clone();
        let far = Self::far_name(call, &service)?;
        let reselect = connection.state == State::RESELECT_REQUESTED;
        let labels = std::mem::replace(&mut connection.labels, self.labels.clone());
        let near = near(call, connection);
        let first = call.store.get::<Downstream>().is_none();
        let agreed = call.store.get::<Far>().filter(|_| !reselect);
        connection.network_service_endpoint_name.clear();
        connection.mechanism = match agreed {
            Some(agreed) => {
                connection.network_service_endpoint_name = agreed.endpoint;
                MessageField::some(agreed.mechanism)
            }
            None => MessageField::none(),
        };
        let offer = Kernel {
            netns: Some(self.namespace.inode),
            name: Some(far.clone()),
            bare: true,
        };
        request.mechanism_preferences = vec![offer.mechanism()];
        let mut answer = next.request(call, request).await?;
        let endpoint = std::mem::replace(
            &mut answer.network_service_endpoint_name,
            near.endpoint.clone(),
        );
        answer.labels = labels;
        let ip = IPContext::clone(&answer.context.ip_context);
        if call.caller.is_some() {
            let ip = ip.clone();
            call.store.put(Near { ip, ..near });
        }
        if let Some(mechanism) = answer.mechanism.take() {
            call.store.put(Far {
                endpoint,
                mechanism,
                ip,
            });
        }
        let joined = Joined {
            id: Own::of(call)?.id,
            near: Self::near_name(call, &service)?,
            far,
        };
        if let Err(error) = self.joiner.join(joined).await {
            if first {
                let id = answer.id.clone();
                if let Err(also) = self.close(call, answer, next).await {
                    tracing::warn!(id, %also, "closing what could not be joined");
                }
            }
            return Err(error);
        }
        Ok(answer)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        let parted = self.joiner.part(&connection.id).await;
        let closed = next.close(call, connection).await;
        let errors: Vec<Error> = [parted, closed]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        Error::join(errors).map_or(Ok(()), Err)
    }
}
