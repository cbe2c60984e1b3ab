//! What test programs on a real mesh share: a mesh and what is done with it, what there is in it, a
//! peer that speaks for itself, and the runner.

#![allow(dead_code, reason = "each program uses its part")]

pub(crate) mod census;
pub(crate) mod raw;
pub(crate) mod runner;
pub(crate) mod world;
