//! NetworkService documents: both forms, and every broken listing with its line and correction.

mod accepted;
mod listings;
mod outer;
mod refused;
mod written;
