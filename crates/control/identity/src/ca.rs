//! The built-in authority: SPIFFE identities for machines without SPIRE.

mod issue;
mod root;

use nsm_model::spiffe::{SpiffeId, TrustDomain};

pub use root::Root;

use crate::{identity::IdentityError, svid::SvidError};

/// What the authority cannot do.
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
    /// An intermediate without certificate.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// An ID of another trust domain.
    #[error("{id} is not of trust domain {domain}, for which this authority signs")]
    ForeignId {
        /// What was asked for.
        id: SpiffeId,
        /// What could be had.
        domain: TrustDomain,
    },
    /// No random numbers.
    #[error("the system's random source failed")]
    Random,
}
