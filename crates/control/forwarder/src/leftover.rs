//! Plans that the kernel would not let go of: taken back again, until they are gone.

use std::{sync::Arc, time::Duration};

use nsm_chain::Backoff;
use nsm_plan::Plan;

use crate::{Kernel, Lives};

/// Waits between attempts.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often: ten minutes in all. What stands then is swept after the next start.
const MAX_TRIES: usize = 15;

/// Takes a plan back whose connection is gone, unless one with its key has come meanwhile, which
/// has taken over what stood.
pub(crate) async fn take_back(id: String, plan: Plan, kernel: Arc<dyn Kernel>, lives: Arc<Lives>) {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    for _ in 0..MAX_TRIES {
        tokio::time::sleep(backoff.next_wait()).await;
        if plan.links().any(|(link, _)| lives.get(link.key).is_some()) {
            return;
        }
        match kernel.undo(plan.clone()).await {
            Ok(()) => {
                tracing::info!(id, "what the kernel had kept is gone");
                return;
            }
            Err(error) => tracing::debug!(id, %error, "the kernel keeps it"),
        }
    }
    tracing::error!(id, %plan, "the kernel keeps what was closed: the next start of this forwarder sweeps it");
}
