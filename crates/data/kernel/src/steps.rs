//! The places where carrying out a plan can be interrupted: before each change of the kernel.

use std::fmt;
use std::sync::Arc;

/// Told before each change, one message or one kernel parameter, on the thread that makes it. A
/// test ends its process there. Without one, changes go out in batches.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<dyn Fn() + Send + Sync>>);

impl Steps {
    /// Tells `before` of each.
    #[must_use]
    pub fn new(before: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(before)))
    }

    pub(crate) fn step(&self) {
        if let Some(before) = &self.0 {
            before();
        }
    }

    /// Whether anybody wants to be told of each one.
    pub(crate) fn are_single(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}
