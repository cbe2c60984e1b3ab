//! The connections of a role, and who watches them (`MonitorConnections`, wire contract 1.2).

mod select;
mod subscriber;
mod table;

pub use select::matches;
pub use subscriber::{Events, MAX_WAITING_EVENTS};
pub use table::{Connections, INITIAL_BATCH, MAX_SUBSCRIBERS, Service};
