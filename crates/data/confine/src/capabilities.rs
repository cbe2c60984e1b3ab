//! Dropping capabilities, from every set that a process has.

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    },
};

use crate::{ConfineError, profile::Right, refused};

/// Numbers that a capability may have: the sets are 64 bits wide.
const NUMBERS: u32 = 64;

/// What is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Kept, by name.
    pub kept: Vec<&'static str>,
    /// The role has a use for them, and this process was started without.
    pub missing: Vec<&'static str>,
    /// The bounding set could not be made smaller, for want of CAP_SETPCAP: `no_new_privs` alone
    /// keeps a program that this process might become from gaining any.
    pub bounding_kept: bool,
}

/// Keeps these rights of what the process has, in the permitted, effective and bounding sets; the
/// inheritable and the ambient set are empty afterwards.
pub(crate) fn drop_to(rights: &[Right]) -> Result<Capabilities, ConfineError> {
    let had = capabilities(None)
        .map_err(refused("read the capabilities"))?
        .permitted;
    let wanted = rights
        .iter()
        .fold(CapabilitySet::empty(), |all, right| all | right.capability);
    // First: it needs CAP_SETPCAP, which goes next.
    let bounding_kept = !bound(wanted)?;
    match clear_ambient_capability_set() {
        // Linux before 4.3 has no such set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(refused("clear the ambient capabilities")(error)),
    }
    let left = had & wanted;
    let sets = CapabilitySets {
        effective: left,
        permitted: left,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(refused("drop capabilities"))?;
    let names = |held: bool| {
        let of = rights
            .iter()
            .filter(|right| left.contains(right.capability) == held && (held || !right.optional));
        of.map(|right| right.name).collect()
    };
    Ok(Capabilities {
        kept: names(true),
        missing: names(false),
        bounding_kept,
    })
}

/// Makes the bounding set as small; false when the process may not.
fn bound(wanted: CapabilitySet) -> Result<bool, ConfineError> {
    let numbers = (0..NUMBERS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in numbers.filter(|one| !wanted.contains(*one)) {
        match capability_is_in_bounding_set(capability) {
            Ok(false) => continue,
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) => return Ok(true),
            Ok(true) => {}
            Err(error) => return Err(refused("read the bounding set")(error)),
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::PERM) => return Ok(false),
            Err(error) => return Err(refused("drop capabilities from the bounding set")(error)),
        }
    }
    Ok(true)
}
