//! The elements that every role's list shares, a file each, with upstream's names.

mod answers;
mod authorize;
mod clientinfo;
mod connect;
mod monitor;
mod neighbour;
mod recvfd;
mod timeout;
mod trimpath;
mod updatepath;
mod updatetoken;

pub use crate::call::Own;
pub use crate::downstream::{Downstream, Found, Resolve};
pub use crate::owed::{Ledger, Owed};
pub use crate::suspension::{Interest, Suspension};
pub use answers::Answers;
pub use authorize::{Authorize, Names};
pub use clientinfo::{ClientInfo, Labelled};
pub use connect::Connect;
pub use monitor::{Fallen, Monitor, Relay, Table, copy_metrics};
pub use neighbour::Neighbour;
pub use recvfd::{Held, RecvFd, inode, inodes};
pub(crate) use timeout::LONGEST;
pub use timeout::Timeout;
pub use trimpath::TrimPath;
pub use updatepath::UpdatePath;
pub use updatetoken::{UpdateToken, timestamp};
