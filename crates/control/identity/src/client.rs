//! The consumer of the SPIFFE Workload API: SPIRE's agent or ours.

mod error;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nsm_model::spiffe::TrustDomain;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

pub use error::WorkloadError;

use crate::{
    Bundles, Identity, IdentityPublisher, IdentitySource,
    address::AgentAddress,
    guard::{Backoff, TaskGuard},
    svid,
    workload::{X509SVIDRequest, X509SVIDResponse, client::SpiffeWorkloadAPIClient},
};

/// The first pause after a refusal: a process often starts a moment before its entry is known.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause while starting: nobody should wait longer than this for an agent that has
/// come.
const STARTUP_PAUSE_MAX: Duration = Duration::from_millis(500);

/// The longest pause while the agent is away: the SVID in hand lasts for minutes at least.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A connection attempt and the first answer together; a local agent needs milliseconds.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Federated domains with large bundles fit; more is not an SVID response.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// An identity that follows its agent; dropping it ends the following.
#[derive(Debug)]
pub struct Workload {
    source: IdentitySource,
    _task: TaskGuard,
}

impl Workload {
    /// Fetches the default SVID from the agent at `address` (`unix:///path` or `tcp://ip:port`),
    /// trying until `startup` has passed, and follows its rotations from then on.
    pub async fn connect(address: &str, startup: Duration) -> Result<Self, WorkloadError> {
        let address: AgentAddress = address.parse()?;
        let begin = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, STARTUP_PAUSE_MAX);
        let (stream, first) = loop {
            match open(&address).await {
                Ok(opened) => break opened,
                Err(last) if begin.elapsed() >= startup => {
                    return Err(WorkloadError::Startup {
                        waited: begin.elapsed(),
                        last: Box::new(last),
                    });
                }
                Err(error) => tracing::debug!(%error, "no identity yet"),
            }
            backoff.sleep_until(begin + startup).await;
        };
        tracing::info!(id = %first.id(), agent = %address, "identity received");
        let (publisher, source) = IdentitySource::channel(first);
        let follower = Follower {
            address,
            publisher,
            current: source.clone(),
        };
        Ok(Self {
            source,
            _task: TaskGuard::spawn(follower.run(stream)),
        })
    }

    /// The identity, current and future.
    pub fn source(&self) -> IdentitySource {
        self.source.clone()
    }
}

/// A request with the metadata that the Workload API demands against forged cross-site calls.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

struct Follower {
    address: AgentAddress,
    publisher: IdentityPublisher,
    current: IdentitySource,
}

impl Follower {
    async fn run(self, first: Streaming<X509SVIDResponse>) {
        let mut stream = Some(first);
        let mut backoff = Backoff::new(FIRST_PAUSE, PAUSE_MAX);
        loop {
            if let Some(stream) = stream.take() {
                let error = self.follow(stream, &mut backoff).await;
                let left = self.current.current().remaining(SystemTime::now());
                tracing::warn!(%error, svid_left = ?left, "lost the SPIFFE agent, keeping the identity in hand");
            }
            tokio::time::sleep(backoff.step()).await;
            match open(&self.address).await {
                Ok((opened, identity)) => {
                    self.publish(identity);
                    stream = Some(opened);
                }
                Err(error) => tracing::debug!(%error, "the SPIFFE agent is still away"),
            }
        }
    }

    /// Publishes what the stream brings until it ends.
    async fn follow(
        &self,
        mut stream: Streaming<X509SVIDResponse>,
        backoff: &mut Backoff,
    ) -> WorkloadError {
        loop {
            // An agent renews at half; one that is long overdue hangs, or the network lost it.
            let left = self.current.current().remaining(SystemTime::now());
            let overdue = (left * 3 / 4).max(PAUSE_MAX);
            let received = tokio::time::timeout(overdue, stream.message()).await;
            let late = || Err(Status::unavailable("it sent no new SVID in time"));
            let message = match received.unwrap_or_else(|_| late()) {
                Ok(Some(message)) => message,
                Ok(None) => {
                    return agent_error(&self.address, &Status::unavailable("it ended the stream"));
                }
                Err(status) => return agent_error(&self.address, &status),
            };
            backoff.reset();
            match identity(message) {
                Ok(identity) => self.publish(identity),
                // The old one is still good; the agent may send a better one.
                Err(Unusable::Expired(reason) | Unusable::Wrong(reason)) => {
                    tracing::error!(agent = %self.address, reason, "unusable SVID ignored")
                }
            }
        }
    }

    fn publish(&self, identity: Arc<Identity>) {
        let current = self.current.current();
        if current.chain() == identity.chain() && current.bundles() == identity.bundles() {
            return;
        }
        let until = crate::time::rfc3339(identity.not_after());
        tracing::debug!(id = %identity.id(), %until, "identity rotated");
        self.publisher.publish(identity);
    }
}

/// Connects and waits for the first SVID.
async fn open(
    address: &AgentAddress,
) -> Result<(Streaming<X509SVIDResponse>, Arc<Identity>), WorkloadError> {
    let attempt = async {
        let channel: Channel =
            address
                .connect()
                .await
                .map_err(|error| WorkloadError::Unreachable {
                    address: address.clone(),
                    reason: root_cause(&error),
                })?;
        let mut client =
            SpiffeWorkloadAPIClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = client
            .fetch_x509_svid(request(X509SVIDRequest::default()))
            .await;
        let mut stream = answer
            .map_err(|status| agent_error(address, &status))?
            .into_inner();
        let identity = first(address, &mut stream).await?;
        Ok((stream, identity))
    };
    tokio::time::timeout(ATTEMPT, attempt)
        .await
        .unwrap_or_else(|_| {
            Err(WorkloadError::Agent {
                address: address.clone(),
                reason: format!("no answer within {ATTEMPT:?}"),
            })
        })
}

/// The first SVID of a stream. An agent that was away from its server hands out what has expired,
/// and soon after what has not.
async fn first(
    address: &AgentAddress,
    stream: &mut Streaming<X509SVIDResponse>,
) -> Result<Arc<Identity>, WorkloadError> {
    loop {
        let message = stream
            .message()
            .await
            .map_err(|status| agent_error(address, &status))?;
        match identity(message.unwrap_or_default()) {
            Ok(identity) => return Ok(identity),
            Err(Unusable::Expired(reason)) => {
                tracing::warn!(agent = %address, reason, "waiting for an SVID that is valid");
            }
            Err(Unusable::Wrong(reason)) => {
                let address = address.clone();
                return Err(WorkloadError::Svid { address, reason });
            }
        }
    }
}

fn agent_error(address: &AgentAddress, status: &Status) -> WorkloadError {
    // What broke is below the layers that tell of it.
    let broke = std::error::Error::source(status).map(root_cause);
    let (address, reason) = (
        address.clone(),
        broke.unwrap_or_else(|| status.message().to_owned()),
    );
    if status.code() == Code::PermissionDenied {
        let uid = rustix::process::geteuid().as_raw();
        return WorkloadError::Refused {
            address,
            reason,
            uid,
            pid: std::process::id(),
        };
    }
    WorkloadError::Agent {
        address,
        reason: format!("{}: {reason}", status.code()),
    }
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Why a response is no identity.
pub(crate) enum Unusable {
    /// It was one.
    Expired(String),
    /// It cannot be one.
    Wrong(String),
}

impl<T: ToString> From<T> for Unusable {
    fn from(reason: T) -> Self {
        Self::Wrong(reason.to_string())
    }
}

/// The identity in a response: the first SVID is the default one (SPIFFE Workload API, section
/// 5.3).
pub(crate) fn identity(message: X509SVIDResponse) -> Result<Arc<Identity>, Unusable> {
    let svid = message.svids.into_iter().next();
    let svid = svid.ok_or("it contains no SVID")?;
    let mut bundles = Bundles::new();
    for (domain, der) in &message.federated_bundles {
        match bundle(domain, der) {
            Ok((domain, roots)) => drop(bundles.insert(domain, roots)),
            // Of somebody else's making: our own SVID is good without it.
            Err(error) => tracing::error!(
                domain,
                error,
                "a federated bundle is unusable: that domain is refused"
            ),
        }
    }
    let chain = svid::split(&svid.x509_svid)?;
    let id: nsm_model::spiffe::SpiffeId = svid.spiffe_id.parse()?;
    let (domain, roots) = bundle(id.trust_domain().as_str(), &svid.bundle)?;
    bundles.insert(domain, roots);
    let identity = Identity::new(chain, svid.x509_svid_key, bundles)?;
    if *identity.id() != id {
        return Err(format!(
            "it is said to be for {id}, its certificate for {}",
            identity.id()
        )
        .into());
    }
    let (end, now) = (identity.not_after(), SystemTime::now());
    if end <= now {
        let end = humantime::format_rfc3339_seconds(end);
        return Err(Unusable::Expired(format!(
            "it expired at {end}; does the agent reach its server, and are the clocks right?"
        )));
    }
    Ok(identity)
}

type Roots = Vec<rustls::pki_types::CertificateDer<'static>>;

fn bundle(domain: &str, der: &[u8]) -> Result<(TrustDomain, Roots), String> {
    let domain: TrustDomain = domain
        .trim_end_matches('/')
        .parse()
        .map_err(|error: nsm_model::spiffe::SpiffeError| error.to_string())?;
    let roots = svid::split(der).map_err(|error| format!("bundle of {domain}: {error}"))?;
    Ok((domain, roots))
}

/// The bundles as the Workload API carries them: concatenated DER by the ID of the trust domain.
pub(crate) fn encode_bundles(bundles: &Bundles) -> BTreeMap<String, Vec<u8>> {
    let encode = |roots: &Roots| roots.iter().flat_map(|root| root.iter().copied()).collect();
    bundles
        .iter()
        .map(|(domain, roots)| (format!("spiffe://{domain}"), encode(roots)))
        .collect()
}
