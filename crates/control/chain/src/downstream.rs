//! Where a connection goes from here.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use nsm_api::{connection::Connection, registry::NetworkServiceEndpoint};
use nsm_model::path;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Call, Code, Directory, Error, Expected, Hop, Kept, Target, Transport, journal};

/// Where the next hop is, and who must answer there.
pub type Found = (Target, Option<Expected>);

type Find = dyn Fn(Instant) -> BoxFuture<'static, Result<Found, Error>> + Send + Sync;

/// What an endpoint is found by for others: its name, and its address where that is everybody's.
type Address = (Option<String>, Option<String>);

/// Finds a next hop again after a restart: a socket that came as a descriptor cannot be written
/// down, so whoever chose the hop looks it up once more when it is wanted.
#[derive(Clone)]
pub struct Resolve {
    find: Arc<Find>,
    /// The endpoint's name, where it is found by that.
    name: Option<String>,
}

impl fmt::Debug for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolve")
    }
}

impl Resolve {
    /// Finds it by this function, no longer than to the deadline that it is given.
    pub fn new<F, R>(find: F) -> Self
    where
        F: Fn(Instant) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Found, Error>> + Send + 'static,
    {
        Self {
            find: Arc::new(move |deadline| Box::pin(find(deadline))),
            name: None,
        }
    }

    /// The same; what is not found is taken for away.
    #[must_use]
    pub fn waiting(self) -> Self {
        let Self { find, name } = self;
        let resolve = Self::new(move |deadline| {
            let found = find(deadline);
            async move {
                found.await.map_err(|mut error| {
                    if error.code == Code::NotFound {
                        error.code = Code::Unavailable;
                    }
                    error
                })
            }
        });
        Self { name, ..resolve }
    }

    /// Finds the endpoint of this name in a directory; `expected` says who must answer there.
    pub fn endpoint(
        directory: Arc<dyn Directory>,
        name: String,
        expected: impl Fn(&NetworkServiceEndpoint) -> Expected + Send + Sync + 'static,
    ) -> Self {
        let (expected, known) = (Arc::new(expected), name.clone());
        let resolve = Self::new(move |deadline| {
            let (directory, name) = (Arc::clone(&directory), name.clone());
            let expected = Arc::clone(&expected);
            async move {
                let endpoint = directory.endpoint(&name, deadline).await?;
                let target = directory.target(&endpoint, deadline).await?;
                Ok((target, Some(expected(&endpoint))))
            }
        });
        Self {
            name: Some(known),
            ..resolve
        }
    }
}

/// See the module; cheap to clone but for the connection.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// Where it was last; a hop that was started again may listen on another socket.
    known: Option<Found>,
    resolve: Option<Resolve>,
    /// The connection as that hop answered it.
    pub connection: Connection,
}

impl Downstream {
    /// A hop that is there, with nothing of the connection known yet.
    #[must_use]
    pub fn at(target: Target, expected: Option<Expected>, resolve: Option<Resolve>) -> Self {
        Self::found(Some((target, expected)), resolve)
    }

    /// A hop that is found in one of these ways.
    pub(crate) fn found(known: Option<Found>, resolve: Option<Resolve>) -> Self {
        Self {
            known,
            resolve,
            connection: Connection::default(),
        }
    }

    /// How others find it.
    pub(crate) fn address(&self) -> Address {
        let name = self.resolve.as_ref().and_then(|found| found.name.clone());
        let target = self.known.as_ref().map(|(target, _)| target);
        let url = match target {
            Some(Target::Url(url)) if name.is_none() || !url.is_local() => Some(url.to_string()),
            _ => None,
        };
        (name, url)
    }

    /// The hop that elements before said in a call, or how it is found.
    pub(crate) fn told(call: &Call) -> Option<Self> {
        let (target, resolve) = (call.scratch.get(), call.scratch.get::<Resolve>());
        if target.is_none() && resolve.is_none() {
            return None;
        }
        let known = target.map(|target| (target, call.scratch.get()));
        Some(Self::found(known, resolve))
    }

    /// Which hop that is. A hop that was restarted may give the connection another id and listen
    /// on another socket, and is the same hop by its name.
    pub(crate) fn hop(&self) -> Option<&str> {
        path::next(&self.connection.path).map(|segment| segment.name.as_str())
    }

    /// Whether it is known to be the last hop: by its answer, or since it was asked as the endpoint
    /// of this name, and not as the hop on the way there that everybody finds at its address.
    pub(crate) fn is_endpoint(&self) -> bool {
        let path = &self.connection.path;
        match path.path_segments.len().checked_sub(path.index as usize) {
            Some(2) => true,
            Some(1) => {
                let endpoint = &self.connection.network_service_endpoint_name;
                matches!(self.address(), (Some(name), None) if name == *endpoint)
            }
            _ => false,
        }
    }

    /// The hop as far as anybody could tell it from others: its name, else where it was.
    pub(crate) fn place(&self) -> String {
        self.hop().map_or_else(|| self.to_string(), str::to_owned)
    }

    /// The same, with nothing known of the connection but what it was asked with.
    pub(crate) fn asked_for(mut self, connection: &Connection) -> Self {
        self.connection.clone_from(connection);
        path::trim(self.connection.path.get_or_insert_default());
        self
    }

    /// The same, found there.
    pub(crate) fn found_at(self, found: Found) -> Self {
        Self {
            known: Some(found),
            ..self
        }
    }

    /// Where it was found, unless that is known already: whoever told it may be away later.
    pub(crate) fn learn(&mut self, found: &Self) {
        if self.known.is_none() {
            self.known.clone_from(&found.known);
        }
    }

    /// The hop, connected; somebody else who answers there is refused.
    ///
    /// # Errors
    /// It is not found, nobody answers, or it is not whom the elements before expect.
    pub(crate) async fn reach(
        &self,
        transport: &dyn Transport,
        deadline: Instant,
    ) -> Result<Arc<dyn Hop>, Error> {
        let (_, hop) = self.connect(transport, deadline).await?;
        Ok(hop)
    }

    /// As [`Downstream::reach`], and where it was found.
    pub(crate) async fn connect(
        &self,
        transport: &dyn Transport,
        deadline: Instant,
    ) -> Result<(Found, Arc<dyn Hop>), Error> {
        let away = match &self.known {
            None => None,
            Some(known) => match dial(transport, known.clone(), deadline).await {
                Err(error) if error.code == Code::Unavailable => Some(error),
                reached => return reached,
            },
        };
        match (&self.resolve, away) {
            (Some(Resolve { find, .. }), _) => {
                dial(transport, find(deadline).await?, deadline).await
            }
            (None, Some(away)) => Err(away),
            (None, None) => Err(Error::new(Code::Internal, "a next hop without an address")),
        }
    }
}

async fn dial(
    transport: &dyn Transport,
    found: Found,
    deadline: Instant,
) -> Result<(Found, Arc<dyn Hop>), Error> {
    let (target, expected) = &found;
    let hop = transport.connect(target, deadline).await?;
    if let Some(expected) = expected {
        expected.check(hop.peer())?;
    }
    Ok((found, hop))
}

impl fmt::Display for Downstream {
    /// Where it was last, else its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.known {
            Some((target, _)) => target.fmt(f),
            None => f.write_str(self.hop().unwrap_or("the next hop")),
        }
    }
}

/// What the journal keeps of it: the connection as the next hop has it, without tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Beyond {
    #[serde(with = "journal::message")]
    connection: Connection,
}

impl Kept for Beyond {
    const NAME: &'static str = "connect";
}

impl Beyond {
    pub(crate) fn of(downstream: &Downstream) -> Self {
        let mut connection = downstream.connection.clone();
        journal::without_tokens(connection.path.get_or_insert_default());
        Self { connection }
    }

    /// The hop again, found when it is wanted.
    pub(crate) fn found_by(self, resolve: Resolve) -> Downstream {
        Downstream {
            known: None,
            resolve: Some(resolve),
            connection: self.connection,
        }
    }
}
