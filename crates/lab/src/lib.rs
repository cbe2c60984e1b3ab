//! Nodes and pods as namespaces on one machine, without root: the stage for the demo, the benches
//! and the tests.
//!
//! [`enter`] first thing in `main`, then [`Lab::new`], [`Lab::node`], [`Node::pod`], and
//! [`Cell::spawn`] for roles, which are processes of our own binary. The binary dispatches
//! [`init::SUBCOMMAND`] to [`init::main`] and [`serve::SUBCOMMAND`] to [`serve::main`].
//!
//! Everything dies with the lab's process, also when that is killed: the first process of each cell
//! holds a socket to it.

mod cell;
mod enter;
mod error;
pub mod init;
mod lab;
mod leftovers;
pub mod measure;
pub mod mesh;
mod netlink;
mod node;
mod pod;
pub mod serve;
mod signals;
mod silence;
pub mod standing;
mod sys;
mod underlay;
mod wire;

pub use cell::{Cell, Disturbance, Namespaces, Network, Output, Process, Run, Spec};
pub use enter::{enter, entered};
pub use error::LabError;
pub use lab::{Config, Lab, MTU};
pub use node::{IDENTITY_FOLDER, Node, SOCKET_FOLDER};
pub use pod::Pod;
pub use signals::Interrupt;
pub use silence::{Lost, Silence};
pub use underlay::Addresses;
pub use wire::{Bind, Exit};
