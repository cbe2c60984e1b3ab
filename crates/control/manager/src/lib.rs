//! The manager: one per node, the door of its clients and endpoints.
