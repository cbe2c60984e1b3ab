//! Chains of elements: how a role handles a request and its close.
