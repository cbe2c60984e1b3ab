//! What services and endpoints exist: stored, indexed, watched.
