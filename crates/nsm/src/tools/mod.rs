//! The operator's tools: what is there, how a connection runs, what shall be there.

pub(crate) mod apply;
mod connections;
pub(crate) mod delete;
pub(crate) mod drain;
mod draw;
pub(crate) mod get;
pub(crate) mod health;
mod hops;
mod manifest;
mod operator;
pub(crate) mod output;
mod records;
pub(crate) mod trace;
