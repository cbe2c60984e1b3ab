//! Who may be what: roles by patterns of SPIFFE IDs, from one YAML file or the standard ones.
//!
//! A manager, a forwarder and a registry are trusted by everybody else: they carry other people's
//! requests. An operator sees and ends everything. Clients and endpoints are told by service; who
//! is not named there is judged by [`Services`].

mod pattern;
mod read;

use std::{collections::BTreeMap, fmt};

pub use pattern::{Pattern, PatternError};

use crate::{
    spiffe::{SpiffeId, TrustDomain},
    yaml::YamlError,
};

/// The most patterns of one list: a federation of a hundred domains has one or two for each.
pub const MAX_PATTERNS: usize = 256;

/// The most services that a file names; each is looked up by name.
pub const MAX_SERVICES: usize = 4_096;

/// The key of `clients` and `endpoints` that stands for every service without one of its own.
pub const EVERY_SERVICE: &str = "*";

/// A role that does not depend on a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A node's door: takes requests of workloads, registers for them.
    Manager,
    /// Makes interfaces; is handed the namespaces of everybody's clients.
    Forwarder,
    /// Says which endpoints there are.
    Registry,
    /// Sees every connection and ends every registration.
    Operator,
}

impl Role {
    /// The word for it in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Forwarder => "forwarder",
            Self::Registry => "registry",
            Self::Operator => "operator",
        }
    }

    /// The key that lists it in a roles file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Manager => "managers",
            Self::Forwarder => "forwarders",
            Self::Registry => "registries",
            Self::Operator => "operators",
        }
    }

    /// Who holds it where no file says otherwise: the names that the lab and the built-in
    /// authority's documents use, and those of the pods of upstream's manifests.
    fn standard(self) -> &'static [&'static str] {
        match self {
            Self::Manager => &[
                "/manager",
                "/manager-*",
                "/manager/**",
                "/nsmgr",
                "/nsmgr-*",
                "/nsmgr/**",
                "/ns/nsm-system/pod/nsmgr-*",
            ],
            Self::Forwarder => &[
                "/forwarder",
                "/forwarder-*",
                "/forwarder/**",
                "/ns/nsm-system/pod/forwarder-*",
            ],
            Self::Registry => &[
                "/registry",
                "/registry-*",
                "/registry/**",
                "/ns/nsm-system/pod/registry-*",
            ],
            Self::Operator => &["/operator", "/operator/**"],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may be the client, or the endpoint, of which service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Services(BTreeMap<String, Vec<Pattern>>);

impl Services {
    /// The patterns of a service, or those of every service; `None` where the file has neither.
    fn of(&self, service: &str) -> Option<&[Pattern]> {
        let named = self.0.get(service).or_else(|| self.0.get(EVERY_SERVICE));
        named.map(Vec::as_slice)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    own: TrustDomain,
    held: BTreeMap<Role, Vec<Pattern>>,
    clients: Services,
    endpoints: Services,
}

impl Roles {
    /// The roles without a file: hops by their standard names, everybody else of the own trust
    /// domain client and endpoint of everything.
    #[must_use]
    pub fn standard(own: &TrustDomain) -> Self {
        let of = |role: Role| role.standard().iter().filter_map(|text| text.parse().ok());
        let all = [
            Role::Manager,
            Role::Forwarder,
            Role::Registry,
            Role::Operator,
        ];
        Self {
            own: own.clone(),
            held: all.map(|role| (role, of(role).collect())).into(),
            clients: Services::default(),
            endpoints: Services::default(),
        }
    }

    /// Reads the YAML form; a pattern without a trust domain is one of `own`. What a file does not
    /// name stays as [`Roles::standard`] has it.
    ///
    /// # Errors
    /// The first thing that is wrong: its line, field and value.
    pub fn load_yaml(source: &str, own: &TrustDomain) -> Result<Self, YamlError> {
        read::load(source, own)
    }

    /// Whether somebody holds a role.
    #[must_use]
    pub fn holds(&self, role: Role, id: &SpiffeId) -> bool {
        let patterns = self.held.get(&role).map_or(&[][..], Vec::as_slice);
        self.any(patterns, id)
    }

    /// The role by which somebody carries other people's requests, if any.
    #[must_use]
    pub fn hop(&self, id: &SpiffeId) -> Option<Role> {
        [Role::Manager, Role::Forwarder]
            .into_iter()
            .find(|role| self.holds(*role, id))
    }

    /// Whether somebody may ask for a service.
    #[must_use]
    pub fn client_of(&self, service: &str, id: &SpiffeId) -> bool {
        self.may(self.clients.of(service), id)
    }

    /// Whether somebody may offer a service.
    #[must_use]
    pub fn endpoint_of(&self, service: &str, id: &SpiffeId) -> bool {
        self.may(self.endpoints.of(service), id)
    }

    /// Whether somebody may stand in the middle of a service: pass on what its clients ask for, in
    /// their name. Where the clients are named, so must be who speaks for them.
    #[must_use]
    pub fn passes_on(&self, service: &str, id: &SpiffeId) -> bool {
        // What the file says of every service says nothing of one whose clients it names.
        let named = |services: &Services| services.0.contains_key(service);
        let list = if !named(&self.endpoints) && named(&self.clients) {
            self.clients.of(service)
        } else {
            let endpoints = self.endpoints.of(service);
            endpoints.or_else(|| self.clients.of(service))
        };
        self.may(list, id)
    }

    fn may(&self, patterns: Option<&[Pattern]>, id: &SpiffeId) -> bool {
        match patterns {
            Some(patterns) => self.any(patterns, id),
            None => id.member_of(&self.own),
        }
    }

    fn any(&self, patterns: &[Pattern], id: &SpiffeId) -> bool {
        patterns.iter().any(|one| one.matches(id, &self.own))
    }
}

#[cfg(test)]
mod tests;
