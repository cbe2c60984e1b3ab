//! An endpoint's place in the registry: taken, kept, given back.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Backoff, Code, Error, Registrar, Tasks, Tokens};
use tokio::{sync::watch, time::Instant};

/// How long one registration may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// The same where whoever is registered with cannot be reached: a manager that restarts knows this
/// endpoint's socket when it has come again, and whoever wants to connect waits for that. To be
/// refused by a socket that nobody listens at costs next to nothing.
const AWAY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(100));
/// The part of what remains after which it is registered again (upstream: two thirds; a third
/// leaves time for two more attempts).
const SHARE: u32 = 3;
/// An expiry that is near must not make a hot loop.
const SHORTEST: Duration = Duration::from_secs(1);
/// Between two registrations of what has no expiry.
const UNKNOWN: Duration = Duration::from_secs(20);

/// What is registered.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Services to register first: endpoints of a service that nobody defined bring it along.
    pub services: Vec<NetworkService>,
    /// The endpoint.
    pub endpoint: NetworkServiceEndpoint,
}

/// A registration that is kept until it is withdrawn.
pub struct Registration {
    registrar: Arc<dyn Registrar>,
    registered: watch::Receiver<Option<NetworkServiceEndpoint>>,
    tasks: Tasks,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration")
    }
}

impl Registration {
    /// Registers, and again whenever it is due or whoever was registered with came back.
    #[must_use]
    pub fn keep(registrar: Arc<dyn Registrar>, tokens: Arc<dyn Tokens>, offer: Offer) -> Self {
        let (send, registered) = watch::channel(None);
        let tasks = Tasks::new();
        let keeper = Keeper {
            registrar: Arc::clone(&registrar),
            tokens,
            offer,
            registered: send,
        };
        tasks.spawn(keeper.run());
        Self {
            registrar,
            registered,
            tasks,
        }
    }

    /// Waits until it is registered: as what.
    ///
    /// # Errors
    /// It was withdrawn before.
    pub fn registered(
        &self,
    ) -> impl Future<Output = Result<NetworkServiceEndpoint, Error>> + Send + use<> {
        let mut registered = self.registered.clone();
        async move {
            let found = registered.wait_for(Option::is_some).await;
            found.ok().and_then(|found| found.clone()).ok_or_else(|| {
                let message = "the registration was withdrawn before it was made";
                Error::new(Code::Cancelled, message)
            })
        }
    }

    /// Takes the registration back.
    ///
    /// # Errors
    /// Refused, or nobody answered in time; it expires then.
    pub async fn withdraw(self) -> Result<(), Error> {
        self.tasks.shutdown(PATIENCE).await;
        let endpoint = self.registered.borrow().clone();
        match endpoint {
            Some(endpoint) => {
                self.registrar
                    .unregister(endpoint, Instant::now() + PATIENCE)
                    .await
            }
            None => Ok(()),
        }
    }
}

struct Keeper {
    registrar: Arc<dyn Registrar>,
    tokens: Arc<dyn Tokens>,
    offer: Offer,
    registered: watch::Sender<Option<NetworkServiceEndpoint>>,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut away = Backoff::new(AWAY.0, AWAY.1);
        loop {
            match self.register().await {
                Ok(endpoint) => {
                    backoff.reset();
                    away.reset();
                    let wait = wait(&endpoint, self.tokens.now());
                    self.registered.send_replace(Some(endpoint));
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(wait) => {}
                        () = self.registrar.lost() => {}
                    }
                }
                Err(error) => {
                    let wait = if error.code == Code::Unavailable {
                        away.after(&error)
                    } else {
                        backoff.after(&error)
                    };
                    tracing::warn!(endpoint = self.offer.endpoint.name, %error, ?wait, "registration failed");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn register(&self) -> Result<NetworkServiceEndpoint, Error> {
        let deadline = Instant::now() + PATIENCE;
        for service in &self.offer.services {
            let done = self
                .registrar
                .register_service(service.clone(), deadline)
                .await;
            // Known once, it stays: a registry that is away holds no endpoint back from its
            // manager.
            if self.registered.borrow().is_none() {
                done?;
            } else if let Err(error) = done {
                tracing::warn!(service = service.name, %error, "not registered again");
            }
        }
        self.registrar
            .register(self.offer.endpoint.clone(), deadline)
            .await
    }
}

fn wait(endpoint: &NetworkServiceEndpoint, now: SystemTime) -> Duration {
    let Some(expires) = endpoint.expiration_time.as_option() else {
        return UNKNOWN;
    };
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(expires.seconds).unwrap_or(0));
    match at.duration_since(now) {
        Ok(life) => (life / SHARE).max(SHORTEST),
        Err(over) => {
            tracing::warn!(
                endpoint = endpoint.name,
                skew_s = over.duration().as_secs(),
                "the clock of the registry is behind ours: a registration was over before its answer came; set the \
                 clocks of both sides"
            );
            UNKNOWN
        }
    }
}
