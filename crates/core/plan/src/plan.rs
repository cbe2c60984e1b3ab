//! A plan: ordered, owned resources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::{KeyDigest, Link, Netns, NetnsId, Resource, ResourceId, What};

/// A resource in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its identity.
    pub id: ResourceId,
    /// What has to exist before it.
    pub after: Vec<ResourceId>,
    /// The connections that need it; the last one to go takes it along.
    pub owners: BTreeSet<KeyDigest>,
    /// What shall exist.
    pub resource: Resource,
}

/// Desired state: every entry stands behind what it depends on, and an identity occurs once.
///
/// Its serialised form is kept in journals and read by later versions: names of fields and variants
/// stay, new fields get a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Plan {
    entries: Vec<Entry>,
}

impl Plan {
    /// Adds an entry; for an identity that is there already only the owners are added.
    pub fn add(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|have| have.id == entry.id) {
            Some(have) => have.owners.extend(entry.owners),
            None => self.entries.push(entry),
        }
    }

    /// Entries in the order of application.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// True when nothing is desired.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry with this identity.
    #[must_use]
    pub fn get(&self, id: &ResourceId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    /// The links in order.
    pub fn links(&self) -> impl Iterator<Item = (&ResourceId, &Link)> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.resource {
                Resource::Link(link) => Some((&entry.id, link)),
                Resource::Sysctl(_)
                | Resource::Address(_)
                | Resource::Route(_)
                | Resource::Neighbour(_) => None,
            })
    }

    /// Workloads' namespaces the plan touches.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<NetnsId> {
        let places = self
            .entries
            .iter()
            .flat_map(|entry| entry.resource.places());
        places
            .filter_map(|place| match place {
                Netns::Node => None,
                Netns::Id(id) => Some(id),
            })
            .collect()
    }

    /// Takes one owner away: what others still need stays here, the rest is returned, to be undone.
    pub fn release(&mut self, owner: KeyDigest) -> Self {
        let mut gone = Self::default();
        for mut entry in std::mem::take(&mut self.entries) {
            let owned = entry.owners.remove(&owner);
            if owned && entry.owners.is_empty() {
                entry.owners.insert(owner);
                gone.entries.push(entry);
            } else {
                self.entries.push(entry);
            }
        }
        gone
    }

    pub(crate) fn by_id(&self) -> BTreeMap<&ResourceId, &Entry> {
        self.entries
            .iter()
            .map(|entry| (&entry.id, entry))
            .collect()
    }
}

impl From<Vec<Entry>> for Plan {
    fn from(entries: Vec<Entry>) -> Self {
        entries.into_iter().collect()
    }
}

impl From<Plan> for Vec<Entry> {
    fn from(plan: Plan) -> Self {
        plan.entries
    }
}

impl FromIterator<Entry> for Plan {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut plan = Self::default();
        for entry in entries {
            plan.add(entry);
        }
        plan
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", kind(&self.id.what), Row(&self.resource))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{:<9} {}", kind(&entry.id.what), Row(&entry.resource))?;
        }
        Ok(())
    }
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Link => "link",
        What::Sysctl(_) => "sysctl",
        What::Address(_) => "address",
        What::Route(_) => "route",
        What::Neighbour(_) => "neighbour",
    }
}

struct Row<'a>(&'a Resource);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Resource::Link(link) => write_link(f, link),
            Resource::Sysctl(s) => write!(f, "{} net/{} = {}", s.netns, s.path, s.value),
            Resource::Address(a) => write!(f, "{} {} {}", a.netns, a.name, a.net),
            Resource::Route(r) => match r.via {
                Some(via) => write!(f, "{} {} {} via {via}", r.netns, r.name, r.destination),
                None => write!(f, "{} {} {} link", r.netns, r.name, r.destination),
            },
            Resource::Neighbour(n) => {
                write!(f, "{} {} {} at {}", n.netns, n.name, n.address, Mac(n.mac))
            }
        }
    }
}

fn write_link(f: &mut fmt::Formatter<'_>, link: &Link) -> fmt::Result {
    f.write_str(link.kind())?;
    for end in link.ends() {
        let bare = if end.bare { " bare" } else { "" };
        write!(
            f,
            " [{} {} #{:x} {} mtu {}{bare}]",
            end.netns,
            end.name,
            end.index,
            Mac(end.mac),
            end.mtu
        )?;
    }
    match link {
        Link::Veth { .. } => Ok(()),
        Link::Vxlan { tunnel: t, .. } => write!(
            f,
            " vni {} {} -> {} port {}",
            t.vni, t.local, t.remote, t.port
        ),
    }
}
