//! The members: one is asked at a time; who does not answer is passed over.
//!
//! A question here may be asked twice: reads, leases, and transactions whose outcome can be told.
//! So each attempt is short, the next one goes to another member, and only the whole has a limit.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buffa::Message;
use http::uri::PathAndQuery;
use nsm_chain::{Backoff, Tasks};
use nsm_identity::codec::BuffaCodec;
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::Channel,
};

use super::{dial, pb, settings::Account, settings::EtcdSettings, settings::authority};
use crate::store::StoreError;

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// How long the first attempts may take. A follower keeps what it passed on to a leader that died
/// for 7 s; a commit takes 1 to 10 ms on users' disks.
const ATTEMPT: Duration = Duration::from_millis(500);
/// The longest attempt: they grow, so that a slow disk is waited for.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(4);
/// How long a question is asked in all: an election takes 1 to 2 s by etcd's defaults, and our
/// callers wait for 15 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first and the longest wait between two attempts.
const WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// The largest answer that is read: a page of 256 of the largest records, or etcd's own batch of
/// changes, which has no other limit than this one.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// A member without a leader says so at once instead of waiting for one.
const NEEDS_LEADER: (&str, &str) = ("hasleader", "true");
/// Where etcd looks for what Authenticate answered.
const TOKEN: &str = "token";

/// See the module.
#[derive(Debug)]
pub(super) struct Cluster {
    name: String,
    members: Vec<(String, Channel)>,
    current: AtomicUsize,
    account: Option<Account>,
    token: Mutex<Option<AsciiMetadataValue>>,
}

/// An answer, and how often it was asked for.
pub(super) struct Asked<A> {
    pub(super) answer: A,
    pub(super) attempts: u32,
}

/// What to do about an answer that is none.
enum Verdict {
    Again,
    Anew,
    Final(StoreError),
}

impl Cluster {
    pub(super) fn new(settings: &EtcdSettings, tasks: &Tasks) -> Result<Self, StoreError> {
        let name = settings.url.to_string();
        let refused = |cause: String| StoreError::Refused {
            members: name.clone(),
            cause,
        };
        if let Some(tls) = &settings.tls {
            dial::config(tls).map_err(refused)?;
        }
        let members = settings.url.members.iter().map(|member| {
            let channel = dial::channel(member, settings.tls.clone(), tasks);
            channel.map(|channel| (authority(member), channel))
        });
        Ok(Self {
            members: members.collect::<Result<_, _>>().map_err(refused)?,
            current: AtomicUsize::new(0),
            account: settings.account.clone(),
            token: Mutex::default(),
            name,
        })
    }

    /// Where it is, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks until somebody answers or the patience is over.
    pub(super) async fn ask<Q, A>(
        &self,
        method: &'static str,
        question: &Q,
    ) -> Result<Asked<A>, StoreError>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Send + Sync + 'static,
    {
        let until = Instant::now() + PATIENCE;
        let mut backoff = Backoff::new(WAIT.0, WAIT.1);
        let mut limit = ATTEMPT;
        for attempts in 1_u32.. {
            let at = self.current.load(Ordering::Relaxed);
            let asked = timeout(limit, self.once(at, method, question.clone())).await;
            let status = match asked {
                Ok(Ok(answer)) => return Ok(Asked { answer, attempts }),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {limit:?}")),
            };
            match self.judge(&status) {
                Verdict::Final(error) => return Err(error),
                Verdict::Anew => self.forget_token(),
                Verdict::Again => self.pass_over(at),
            }
            let wait = backoff.next_wait();
            if Instant::now() + wait >= until {
                return Err(self.away(at, &status));
            }
            tracing::debug!(method, attempts, %status, "etcd is asked again");
            tokio::time::sleep(wait).await;
            if attempts.is_multiple_of(2) {
                limit = (limit * 2).min(LONGEST_ATTEMPT);
            }
        }
        Err(StoreError::Closed)
    }

    /// Asks the member at this place, once.
    async fn once<Q, A>(&self, at: usize, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Send + Sync + 'static,
    {
        let mut request = Request::new(question);
        self.sign(at, request.metadata_mut()).await?;
        self.unary(at, method, request).await
    }

    async fn unary<Q, A>(
        &self,
        at: usize,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Send + Sync + 'static,
    {
        let mut client = self.client(at)?;
        client.ready().await.map_err(unreachable)?;
        let path = PathAndQuery::from_static(method);
        let answer = client.unary(request, path, BuffaCodec::<Q, A>::default());
        Ok(answer.await?.into_inner())
    }

    /// Opens a watch at the current member; answers with its place as well.
    pub(super) async fn watch(
        &self,
        questions: impl futures_util::Stream<Item = pb::WatchRequest> + Send + 'static,
    ) -> Result<(usize, Streaming<pb::WatchResponse>), (usize, Status)> {
        let at = self.current.load(Ordering::Relaxed);
        let open = async {
            let mut request = Request::new(questions);
            self.sign(at, request.metadata_mut()).await?;
            let mut client = self.client(at)?;
            client.ready().await.map_err(unreachable)?;
            let path = PathAndQuery::from_static(WATCH);
            let codec = BuffaCodec::<pb::WatchRequest, pb::WatchResponse>::default();
            Ok(client.streaming(request, path, codec).await?.into_inner())
        };
        match timeout(ATTEMPT * 2, open).await {
            Ok(Ok(stream)) => Ok((at, stream)),
            Ok(Err(status)) => Err((at, status)),
            Err(_) => Err((at, Status::deadline_exceeded("no watch in time"))),
        }
    }

    /// A watch at this member broke: the next one goes elsewhere, or proves itself anew.
    pub(super) fn broke(&self, at: usize, status: &Status) -> StoreError {
        if matches!(self.judge(status), Verdict::Anew) {
            self.forget_token();
        } else {
            self.pass_over(at);
        }
        self.away(at, status)
    }

    fn client(&self, at: usize) -> Result<Grpc<Channel>, Status> {
        let (_, channel) = self
            .members
            .get(at % self.members.len().max(1))
            .ok_or_else(|| Status::internal("no members"))?;
        Ok(Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    /// Who failed is asked last; many who saw it fail move on by one only.
    fn pass_over(&self, at: usize) {
        let next = at.wrapping_add(1) % self.members.len().max(1);
        let _somebody_else_did =
            self.current
                .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn sign(&self, at: usize, metadata: &mut MetadataMap) -> Result<(), Status> {
        metadata.insert(
            NEEDS_LEADER.0,
            AsciiMetadataValue::from_static(NEEDS_LEADER.1),
        );
        let Some(account) = &self.account else {
            return Ok(());
        };
        let known = self.token().clone();
        let token = match known {
            Some(token) => token,
            None => self.authenticate(at, account).await?,
        };
        metadata.insert(TOKEN, token);
        Ok(())
    }

    async fn authenticate(
        &self,
        at: usize,
        account: &Account,
    ) -> Result<AsciiMetadataValue, Status> {
        let question = pb::AuthenticateRequest {
            name: account.user.clone(),
            password: account.password.clone(),
            ..Default::default()
        };
        let request = Request::new(question);
        let answer: pb::AuthenticateResponse = self.unary(at, AUTHENTICATE, request).await?;
        let token = AsciiMetadataValue::try_from(answer.token)
            .map_err(|_| Status::internal("etcd's token is not ASCII"))?;
        *self.token() = Some(token.clone());
        Ok(token)
    }

    fn forget_token(&self) {
        *self.token() = None;
    }

    fn token(&self) -> MutexGuard<'_, Option<AsciiMetadataValue>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, status: &Status) -> Verdict {
        let refused = || {
            Verdict::Final(StoreError::Refused {
                members: self.name.clone(),
                cause: status.message().to_owned(),
            })
        };
        match status.code() {
            // Its token ends after some minutes, and with each change of etcd's users.
            Code::Unauthenticated if self.account.is_some() => Verdict::Anew,
            Code::InvalidArgument if status.message().contains("revision of auth store is old") => {
                Verdict::Anew
            }
            Code::NotFound if status.message().contains("lease") => {
                Verdict::Final(StoreError::NoLease)
            }
            Code::OutOfRange if status.message().contains("compacted") => {
                Verdict::Final(StoreError::Compacted {
                    after: 0,
                    oldest: 0,
                })
            }
            Code::ResourceExhausted if status.message().contains("too many requests") => {
                Verdict::Again
            }
            Code::Unauthenticated
            | Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::ResourceExhausted => refused(),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Verdict::Again,
        }
    }

    fn away(&self, at: usize, status: &Status) -> StoreError {
        let member = self
            .members
            .get(at)
            .map_or("", |(address, _)| address.as_str());
        let cause = root(status);
        StoreError::Away {
            members: self.name.clone(),
            cause: format!("{member}: {cause}"),
        }
    }
}

fn unreachable(error: tonic::transport::Error) -> Status {
    Status::unavailable(root(&error))
}

/// The first cause: the texts above it say no more than that there is one.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => cause.to_string(),
    }
}
