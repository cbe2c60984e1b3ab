//! The KERNEL mechanism: an interface in a network namespace.

use nsm_api::connection::Mechanism;

use super::{Kind, MechanismError, expect_kind, keys, read, write};
use crate::ifname::IfName;
use crate::url::{InodeUrl, NetnsUrl};

/// What we read and write of a KERNEL mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Kernel {
    /// The namespace, once its descriptor has been sent. `None` for a `file://` URL too: see
    /// [`Kernel::netns_url`].
    pub netns: Option<InodeUrl>,
    /// The interface's name in the workload.
    pub name: Option<IfName>,
    /// No addresses and routes on this side: the interface becomes a bridge's port.
    pub bare: bool,
}

impl Kernel {
    /// Reads a KERNEL mechanism; an error names the parameter.
    pub fn parse(mechanism: &Mechanism) -> Result<Self, MechanismError> {
        expect_kind(mechanism, Kind::Kernel)?;
        let netns = match Self::netns_url(mechanism) {
            None | Some(NetnsUrl::File(_)) => None,
            Some(NetnsUrl::Inode(inode)) => Some(inode),
            Some(NetnsUrl::Other(_)) => read(mechanism, keys::INODE_URL)?,
        };
        let name = read(mechanism, keys::NAME)?;
        let bare = read::<bool>(mechanism, keys::BARE)?.unwrap_or(false);
        Ok(Self { netns, name, bare })
    }

    /// The namespace as the mechanism names it, in whatever form.
    pub fn netns_url(mechanism: &Mechanism) -> Option<NetnsUrl> {
        mechanism
            .parameters
            .get(keys::INODE_URL)
            .filter(|v| !v.is_empty())
            .map(|v| NetnsUrl::parse(v))
    }

    /// Writes the known parameters; `None` leaves what the mechanism has.
    pub fn write(&self, mechanism: &mut Mechanism) {
        write(mechanism, keys::INODE_URL, self.netns.as_ref());
        write(mechanism, keys::NAME, self.name.as_ref());
        if self.bare {
            write(mechanism, keys::BARE, Some(&true));
        } else {
            mechanism.parameters.remove(keys::BARE);
        }
    }

    /// A new mechanism with these parameters.
    pub fn mechanism(&self) -> Mechanism {
        let mut mechanism = Kind::Kernel.mechanism();
        self.write(&mut mechanism);
        mechanism
    }
}
