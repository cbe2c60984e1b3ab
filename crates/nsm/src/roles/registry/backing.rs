//! Where the registry's records are kept: memory, a file, an etcd cluster.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use nsm_registry::{
    Config, Registry, SystemClock,
    store::{Store, memory::MemoryStore, redb::RedbStore},
};
use serde::Serialize;

/// How an etcd cluster is named.
const ETCD: &str = "etcd://";

/// Settings of the store.
#[derive(Debug, Clone, Args, Serialize)]
pub(super) struct Backing {
    /// `memory`, the file that records are kept in, or etcd://host:port,host:port/prefix
    #[arg(long, env = "NSM_STORE", default_value = "/var/lib/nsm/registry.redb")]
    store: String,
    /// PEM file of the authorities that sign etcd's certificates; without it etcd is spoken to
    /// without TLS
    #[arg(long, env = "NSM_ETCD_CA")]
    etcd_ca: Option<PathBuf>,
    /// PEM file of the certificate that etcd is shown
    #[arg(long, env = "NSM_ETCD_CERT", requires_all = ["etcd_ca", "etcd_key"])]
    etcd_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "NSM_ETCD_KEY", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// The user of etcd's own authentication
    #[arg(long, env = "NSM_ETCD_USER", requires_all = ["etcd_password_file", "etcd_ca"])]
    etcd_user: Option<String>,
    /// File of the user's password
    #[arg(long, env = "NSM_ETCD_PASSWORD_FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

impl Backing {
    /// The registry over this store; one that is away is waited for.
    pub(super) async fn open(&self) -> anyhow::Result<Registry> {
        let setting = || format!("--store {}", self.store);
        let store: Arc<dyn Store> = if self.store == "memory" {
            Arc::new(MemoryStore::default())
        } else if self.store.starts_with(ETCD) {
            self.shared().await.with_context(setting)?
        } else {
            let path = PathBuf::from(&self.store);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(setting)?;
            }
            Arc::new(RedbStore::open(&path).with_context(setting)?)
        };
        Ok(Registry::open(store, Arc::new(SystemClock), Config::default()).await?)
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "it waits where etcd is built in")]
    async fn shared(&self) -> anyhow::Result<Arc<dyn Store>> {
        anyhow::bail!("this program was built without etcd: build it with --features etcd")
    }

    #[cfg(feature = "etcd")]
    async fn shared(&self) -> anyhow::Result<Arc<dyn Store>> {
        use nsm_registry::store::{StoreError, etcd::EtcdStore};

        let store = EtcdStore::open(&self.etcd()?, Arc::new(SystemClock))?;
        for tries in 1_u64.. {
            match store.reach().await {
                Ok(()) => break,
                Err(error @ StoreError::Away { .. }) if tries.is_power_of_two() => {
                    tracing::warn!(%error, tries, "waiting for etcd; nothing is served before it answers");
                }
                Err(StoreError::Away { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Arc::new(store))
    }

    #[cfg(feature = "etcd")]
    fn etcd(&self) -> anyhow::Result<nsm_registry::store::etcd::EtcdSettings> {
        use nsm_registry::store::etcd::{Account, EtcdSettings, Tls};

        let mut settings = EtcdSettings::of(self.store.parse()?);
        settings.tls = self.etcd_ca.clone().map(|ca| Tls {
            ca,
            own: self.etcd_cert.clone().zip(self.etcd_key.clone()),
        });
        if let Some((user, path)) = self.etcd_user.clone().zip(self.etcd_password_file.as_ref()) {
            let password = std::fs::read_to_string(path)
                .with_context(|| format!("--etcd-password-file {}", path.display()))?;
            settings.account = Some(Account {
                user,
                password: password.trim_end_matches(['\r', '\n']).to_owned(),
            });
        }
        Ok(settings)
    }
}
