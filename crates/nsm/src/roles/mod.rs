//! Each role: its settings, and how its parts are put together.

use std::net::IpAddr;

pub(crate) mod ca;
pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod forwarder;
pub(crate) mod manager;
mod place;
pub(crate) mod registration;
pub(crate) mod registry;

/// Where a node's manager listens for its workloads: upstream's path.
pub(crate) const MANAGER_SOCKET: &str = "unix:///var/lib/networkservicemesh/nsm.io.sock";

/// This machine's address that others reach it at: the one it would use for the outside, else the
/// first that is not loopback.
pub(crate) fn own_address() -> anyhow::Result<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): nothing is sent, the kernel only picks a
    // source.
    for outside in ["192.0.2.1", "2001:db8::1"] {
        let outside: IpAddr = outside.parse()?;
        if let Ok(own) = nsm_kernel::setup::local_address_towards(outside)
            && !own.is_loopback()
        {
            return Ok(own);
        }
    }
    anyhow::bail!(
        "this machine has no address towards others: name one (--public-url, --tunnel-ip)"
    )
}
