//! Endpoint selection: which endpoints may serve a connection, and in which order they are tried
//! (upstream `tools/matchutils`; weights and the stable choice are ours).

mod rendezvous;
mod rules;

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};

use crate::labels::Labels;

pub use rules::Rules;

/// An endpoint that may serve a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The endpoint as registered.
    pub endpoint: &'a NetworkServiceEndpoint,
    /// Its share: the sum of the weights of the routes that lead to it, at least 1.
    pub weight: u64,
    /// How many matches of the service were fallen through before the one that leads to it: those
    /// of an earlier match stand before those of a later one.
    pub tier: usize,
    /// Whether its registration has run out; such candidates stand after the others.
    pub expired: bool,
    /// Whether it has failed this connection; such candidates stand last.
    pub failed: bool,
}

/// The endpoints that may serve a connection with `labels`, best first.
///
/// `endpoints` are those registered for the service. Where a match falls through, those of the next
/// one stand behind its own: an endpoint that is registered may be dead, which is known to who asks
/// it. The ones that have expired at `now_unix` (seconds) stand behind all others: a registry ends
/// what is over, so that a record that is still there was not renewed because a registry is away.
/// `key` identifies the connection: the same key gets the same order, and over many keys each
/// endpoint comes first as often as its weight says. The endpoints named in `failed` come last.
/// Empty where nothing fits. Whoever selects often for one service keeps its [`Rules`] instead.
pub fn candidates<'a>(
    labels: &Labels,
    service: &NetworkService,
    endpoints: &'a [NetworkServiceEndpoint],
    now_unix: i64,
    key: &[u8],
    failed: &[String],
) -> Vec<Candidate<'a>> {
    Rules::parse(service).candidates(labels, endpoints, now_unix, key, failed)
}

/// The forwarders that may carry a connection with `labels`, in the order given (upstream
/// `discoverforwarder`). `service_name` is the name under which forwarders register their labels.
pub fn forwarders<'a>(
    labels: &Labels,
    service: &NetworkService,
    forwarders: &'a [NetworkServiceEndpoint],
    service_name: &str,
) -> Vec<&'a NetworkServiceEndpoint> {
    Rules::parse(service).forwarders(labels, forwarders, service_name)
}

/// Whether the service speaks of connections with these labels at all: it has no matches, or the
/// source selector of one fits.
pub fn applies(labels: &Labels, service: &NetworkService) -> bool {
    Rules::parse(service).applies(labels)
}

/// Whether the registration has run out at `now_unix`; one without a time never does.
pub fn expired(endpoint: &NetworkServiceEndpoint, now_unix: i64) -> bool {
    endpoint
        .expiration_time
        .as_option()
        .is_some_and(|time| time.seconds <= now_unix)
}

#[cfg(test)]
mod tests;
