//! `dnscontext`: the name servers that an endpoint offers.
//!
//! *What it does*: sdk `pkg/networkservice/connectioncontext/dnscontext`: its configurations are
//! added to the context, each once.
//! *Where it stands*: anywhere in an endpoint's list.
//! *On Close*: nothing.

use async_trait::async_trait;
use nsm_api::{
    connection::Connection, connectioncontext::DNSConfig, networkservice::NetworkServiceRequest,
};
use nsm_chain::{Call, Connections, Element, Error, Next};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct DnsContext(Vec<DNSConfig>);

impl DnsContext {
    /// The element that offers these.
    #[must_use]
    pub fn new(configs: Vec<DNSConfig>) -> Self {
        Self(configs)
    }
}

#[async_trait]
impl Element<Connections> for DnsContext {
    fn name(&self) -> &'static str {
        "dnscontext"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        if !self.0.is_empty() {
            let context = request
                .connection
                .get_or_insert_default()
                .context
                .get_or_insert_default();
            let configs = &mut context.dns_context.get_or_insert_default().configs;
            for config in &self.0 {
                if !configs.contains(config) {
                    configs.push(config.clone());
                }
            }
        }
        next.request(call, request).await
    }
}
