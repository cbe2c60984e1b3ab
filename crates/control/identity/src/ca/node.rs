//! A node's agent: it holds an intermediate, renews it in good time, and signs for the node's
//! workloads.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::sync::watch;

use super::{
    CaError, Root,
    dir::SecretDir,
    issue::Issuer,
    join::{self, JoinConfig, Remote},
    root::{Grant, check_domain, node_id},
};
use crate::{Bundles, Identity, TaskGuard, guard::Backoff};

/// The certificate by which a node talks to the authority, made anew for each call.
const OWN_LIFE: Duration = Duration::from_secs(600);

/// Renewal begins at half of the intermediate's life, so a failed one is not urgent.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// As [`RETRY_FIRST`]; an authority that comes back is found within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a node holds at a time.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) issuer: Issuer,
    pub(crate) grant: Grant,
}

impl Held {
    fn new(grant: Grant, key: KeyPair) -> Result<Arc<Self>, CaError> {
        let issuer = Issuer::intermediate(grant.chain.clone(), key)?;
        Ok(Arc::new(Self { issuer, grant }))
    }

    pub(crate) fn bundles(&self) -> Bundles {
        BTreeMap::from([(self.grant.domain.clone(), self.grant.roots.clone())])
    }
}

/// Who signs the node's intermediate.
#[derive(Clone, Debug)]
enum Upstream {
    Local(Arc<Root>),
    Remote { remote: Remote, dir: SecretDir },
}

/// The signing part of a node's agent; see [`super::WorkloadServer`] for the serving part.
#[derive(Debug)]
pub struct Node {
    keeper: Keeper,
    held: watch::Receiver<Arc<Held>>,
    _renewal: TaskGuard,
}

/// What a renewal needs.
#[derive(Clone, Debug)]
struct Keeper {
    id: SpiffeId,
    node: String,
    upstream: Upstream,
}

impl Node {
    /// Root and node in one process, for a laptop or a lab; must be called within a tokio runtime.
    pub fn local(root: Arc<Root>, node: &str) -> Result<Self, CaError> {
        let (key, request) = request()?;
        let held = Held::new(root.grant_local(node, &request)?, key)?;
        Self::start(node, held, Upstream::Local(root))
    }

    /// A node of a remote authority: with the intermediate that it has, else by its join token.
    pub async fn join(config: JoinConfig) -> Result<Self, CaError> {
        let dir = SecretDir::open(&config.directory)?;
        let remote = Remote::new(&config);
        let held = match usable(join::restore(&dir, &config.node)?)? {
            Some(held) => held,
            None => {
                let need = || CaError::NeedToken {
                    node: config.node.clone(),
                    directory: config.directory.clone(),
                };
                let token = config.token.as_ref().ok_or_else(need)?;
                let (key, request) = request()?;
                let grant = remote
                    .join(token, config.bundle.as_deref(), request)
                    .await?;
                join::save(&dir, &config.node, &grant, &key)?;
                Held::new(grant, key)?
            }
        };
        Self::start(&config.node, held, Upstream::Remote { remote, dir })
    }

    fn start(node: &str, held: Arc<Held>, upstream: Upstream) -> Result<Self, CaError> {
        let id = node_id(&held.grant.domain, node)?;
        let keeper = Keeper {
            id,
            node: node.to_owned(),
            upstream,
        };
        let (sender, receiver) = watch::channel(held);
        let renewal = TaskGuard::spawn(keeper.clone().keep(sender));
        Ok(Self {
            keeper,
            held: receiver,
            _renewal: renewal,
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        self.keeper.id.trust_domain()
    }

    /// The SPIFFE ID of the agent itself.
    pub fn id(&self) -> &SpiffeId {
        &self.keeper.id
    }

    /// An identity of this node's domain, for a process that needs no attestation because it is
    /// this one.
    pub fn issue(&self, id: &SpiffeId, life: Duration) -> Result<Arc<Identity>, CaError> {
        let held = self.held();
        check_domain(id, &held.grant.domain)?;
        held.issuer
            .identity(id, SystemTime::now() + life, held.bundles())
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        self.held.borrow().clone()
    }

    /// Changes whenever the intermediate or the bundles do.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Held>> {
        self.held.clone()
    }

    pub(crate) async fn mint_jwt(
        &self,
        id: &SpiffeId,
        audience: Vec<String>,
    ) -> Result<String, CaError> {
        match &self.keeper.upstream {
            Upstream::Local(root) => root.mint_jwt(id, &audience),
            Upstream::Remote { remote, .. } => {
                let own = self.keeper.own_identity(&self.held())?;
                remote.mint_jwt(own, id.to_string(), audience).await
            }
        }
    }
}

impl Keeper {
    /// Renews at half of what is left of the intermediate's life, for ever.
    async fn keep(self, sender: watch::Sender<Arc<Held>>) {
        loop {
            let left = sender
                .borrow()
                .issuer
                .not_after()
                .duration_since(SystemTime::now());
            tokio::time::sleep(left.unwrap_or_default() / 2).await;
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            loop {
                let held = sender.borrow().clone();
                match self.renew(&held).await {
                    Ok(held) => {
                        sender.send_replace(held);
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(%error, node = self.node, "cannot renew the intermediate")
                    }
                }
                tokio::time::sleep(backoff.step()).await;
            }
        }
    }

    async fn renew(&self, held: &Held) -> Result<Arc<Held>, CaError> {
        let (key, request) = request()?;
        let grant = match &self.upstream {
            Upstream::Local(root) => root.grant_local(&self.node, &request)?,
            Upstream::Remote { remote, dir } => {
                let grant = remote.renew(self.own_identity(held)?, request).await?;
                join::save(dir, &self.node, &grant, &key)?;
                grant
            }
        };
        Held::new(grant, key)
    }

    fn own_identity(&self, held: &Held) -> Result<Arc<Identity>, CaError> {
        held.issuer
            .identity(&self.id, SystemTime::now() + OWN_LIFE, held.bundles())
    }
}

/// A grant of an earlier run, unless its time is over.
fn usable(stored: Option<(Grant, KeyPair)>) -> Result<Option<Arc<Held>>, CaError> {
    let Some((grant, key)) = stored else {
        return Ok(None);
    };
    let held = Held::new(grant, key)?;
    Ok((held.issuer.not_after() > SystemTime::now()).then_some(held))
}

/// A fresh key and the request for its certificate; names in it would be ignored.
pub(crate) fn request() -> Result<(KeyPair, Vec<u8>), CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}
