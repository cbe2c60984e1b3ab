//! The shared store, on three members of a real etcd.
#![cfg(feature = "etcd")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where it fails, and shows its figures"
)]

mod cluster;
mod failover;
mod load;
mod secured;
mod store;

/// One cluster at a time: three members each write to the disk.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A cluster, and the turn to have one; skips where there is no etcd.
macro_rules! begin {
    ($cluster:ident, $made:expr) => {
        if let Some(missing) = crate::cluster::missing() {
            nsm_tidy::skip!(missing);
        }
        let _turn = crate::TURN.lock().await;
        #[allow(unused_mut, reason = "some tests kill members")]
        let mut $cluster = $made;
    };
}
pub(crate) use begin;
