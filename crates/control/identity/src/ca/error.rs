//! What the authority and the node agent cannot do.

use std::{net::SocketAddr, path::PathBuf};

use nsm_model::spiffe::{SpiffeId, TrustDomain};
use tonic::Status;

use super::{dir::DirError, entries::EntriesError};
use crate::{identity::IdentityError, svid::SvidError};

/// Errors of `nsm ca`.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Certificate encoding or signing.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate that was read.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// Certificate and key that were made or read do not fit.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A secret file.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The entries.
    #[error(transparent)]
    Entries(#[from] EntriesError),
    /// TLS set-up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An intermediate without certificate.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// A signing certificate and key that were mixed up.
    #[error("the authority's key does not belong to its certificate; restore both from one backup")]
    KeyMismatch,
    /// An ID of another trust domain.
    #[error("{id} is not of trust domain {domain}, for which this authority signs")]
    ForeignId {
        /// What was asked for.
        id: SpiffeId,
        /// What could be had.
        domain: TrustDomain,
    },
    /// A node's name.
    #[error("node name {node:?}: {reason}")]
    NodeName {
        /// As given.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// The one answer to every bad join token.
    #[error(
        "the join token for node {node:?} is unknown, used, expired or another node's; make a new one with `nsm ca token {node}`"
    )]
    TokenRefused {
        /// Who wanted to join.
        node: String,
    },
    /// The limit.
    #[error("{0} join tokens are outstanding; wait until some expire (an hour)")]
    TooManyTokens(usize),
    /// A node agent without intermediate and without a token.
    #[error(
        "node {node:?} has no valid intermediate in {directory}; give it a join token made with `nsm ca token {node}`"
    )]
    NeedToken {
        /// Who wanted to start.
        node: String,
        /// Where it looked.
        directory: PathBuf,
    },
    /// A peer that may not renew or mint.
    #[error("{0} is not a node agent with an intermediate of its own")]
    NotANode(SpiffeId),
    /// A request for a key of another kind.
    #[error("the certificate request is not for an EC P-256 key")]
    RequestKey,
    /// A file of ours with wrong content.
    #[error("{name} is damaged: {reason}")]
    BadFile {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A TCP port.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's word.
        reason: String,
    },
    /// A unix socket.
    #[error("cannot listen on {path}: {reason}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// The authority is away or refuses.
    #[error("the authority at {address}: {reason}")]
    Authority {
        /// Where.
        address: SocketAddr,
        /// Its word.
        reason: String,
    },
    /// No random numbers.
    #[error("the system's random source failed")]
    Random,
}

impl CaError {
    /// What a remote caller is told.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::TokenRefused { .. } | Self::NotANode(_) => {
                Status::permission_denied(self.to_string())
            }
            Self::NodeName { .. }
            | Self::RequestKey
            | Self::ForeignId { .. }
            | Self::Certificate(_) => Status::invalid_argument(self.to_string()),
            Self::TooManyTokens(_) => Status::resource_exhausted(self.to_string()),
            Self::Authority { .. } => Status::unavailable(self.to_string()),
            Self::Svid(_)
            | Self::Identity(_)
            | Self::Dir(_)
            | Self::Entries(_)
            | Self::Tls(_)
            | Self::EmptyChain
            | Self::KeyMismatch
            | Self::NeedToken { .. }
            | Self::BadFile { .. }
            | Self::Listen { .. }
            | Self::Socket { .. }
            | Self::Random => {
                tracing::error!(error = %self, "the authority failed");
                Status::internal("the authority failed; see its log")
            }
        }
    }
}
