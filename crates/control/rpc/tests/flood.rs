//! A flood of handshakes that come to nothing: who is honest gets in, and nothing stays. A process
//! of its own, since it counts what the process holds.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use nsm_chain::Code;
use nsm_identity::{Identity, IdentitySource, ca::Root};
use nsm_model::url::EndpointUrl;
use nsm_rpc::{MAX_HANDSHAKES, Server};
use support::{Caller, echo, id, identity, serve, soon, unix};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, task::JoinSet};

/// One wave, all at once.
const WAVE: usize = 300;
/// Waves before the first look (code is paged in, the allocator has its arenas), and after it.
const BEFORE: usize = 2;
const AFTER: usize = 4;
/// How often that is measured.
const ROUNDS: usize = 3;
/// What one more look may find: the allocator's own bookkeeping, far below one wave's buffers.
const MEMORY_KB: i64 = 2_048;
/// How long it may take until the last task has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// An SVID of the right name, signed by an authority of the same name that nobody knows.
fn forged() -> IdentitySource {
    let forger = Root::generate("nsm.test".parse().unwrap()).unwrap();
    let forged = forger
        .issue(&id("client"), Duration::from_secs(3_600))
        .unwrap();
    let chain = forged.chain().to_vec();
    let key = forged.key().secret_der().to_vec();
    let bundles = identity("client").bundles().clone();
    IdentitySource::fixed(Identity::new(chain, key, bundles).unwrap())
}

/// Everything that a stranger may do at the door, and go away.
async fn wave(path: &Path, address: &EndpointUrl, forged: &IdentitySource) {
    let mut crowd = JoinSet::new();
    for number in 0..WAVE {
        let (path, address) = (path.to_owned(), address.clone());
        let forged = forged.clone();
        crowd.spawn(async move {
            match number % 3 {
                0 => drop(UnixStream::connect(path).await.unwrap()),
                1 => {
                    let mut socket = UnixStream::connect(path).await.unwrap();
                    // The beginning of a TLS record that never comes.
                    socket.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
                }
                _ => {
                    let caller = Caller::with(forged);
                    let refused = caller.pool.connect(&address, None, soon()).await;
                    assert_eq!(refused.unwrap_err().code, Code::Unauthenticated);
                }
            }
        });
    }
    while let Some(one) = crowd.join_next().await {
        one.unwrap();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kb() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let field = line.unwrap().split_whitespace().next().unwrap();
    field.parse().unwrap()
}

/// Looks until the process holds as few descriptors as this.
async fn settled(most: usize) {
    let began = tokio::time::Instant::now();
    while descriptors() > most {
        assert!(
            began.elapsed() < PATIENCE,
            "{} descriptors, {most} before",
            descriptors()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_leaves_nothing_and_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let address = unix(folder.path());
    let server = Server::new().connections(echo());
    let running = serve("manager", std::slice::from_ref(&address), server).await;
    let path = folder.path().join("nsm.sock");
    let forged = forged();
    let start = descriptors();
    for _ in 0..BEFORE {
        wave(&path, &address, &forged).await;
    }
    settled(start).await;
    // What is leaked grows every time, an allocator's arenas do not.
    let mut grown = Vec::new();
    for _ in 0..ROUNDS {
        let memory = resident_kb();
        for _ in 0..AFTER {
            wave(&path, &address, &forged).await;
        }
        settled(start).await;
        grown.push(resident_kb() - memory);
    }
    assert!(
        grown.iter().any(|more| *more < MEMORY_KB),
        "{grown:?} kB more"
    );

    // As many as there is room for, and more, say nothing: the honest one gets in at once.
    let mut silent = Vec::new();
    for _ in 0..MAX_HANDSHAKES + WAVE {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let caller = Arc::new(Caller::new("client"));
    let began = tokio::time::Instant::now();
    caller.pool.connect(&address, None, soon()).await.unwrap();
    assert!(began.elapsed() < nsm_rpc::HANDSHAKE_TIMEOUT);
    drop((silent, caller));
    settled(start).await;
    drop(running);
}
