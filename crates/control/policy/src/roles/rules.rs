//! Who may call whom, answer whom, and register what.

use nsm_model::{
    roles::{Role, Roles},
    spiffe::SpiffeId,
};

use crate::denial::{Denial, Kind};

/// Which hop is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A node's manager: workloads of the node begin here, forwarders and proxies go on here.
    Manager,
    /// A forwarder: its node's manager calls.
    Forwarder,
    /// An endpoint: a forwarder calls.
    Endpoint,
}

/// What is asked of a hop.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who calls, as its handshake proved.
    pub caller: &'a SpiffeId,
    /// Whether the connection is the caller's own: it stands in the path's first segment.
    pub first: bool,
    /// Who made the connection, as the hops before say.
    pub maker: &'a SpiffeId,
    /// The service.
    pub service: &'a str,
    /// The connection's id, for messages.
    pub id: &'a str,
}

impl Asked<'_> {
    fn denied(&self, why: String) -> Denial {
        let what = format!("request connection {} of {:?}", self.id, self.service);
        Denial::new(Kind::Role, self.caller, what, why)
    }
}

/// Whether somebody may ask a hop for a connection.
///
/// # Errors
/// The denial: nobody has been told of it yet.
pub fn calls(roles: &Roles, place: Place, asked: &Asked<'_>) -> Result<(), Denial> {
    let Asked {
        caller,
        maker,
        service,
        id,
        ..
    } = *asked;
    let may = match place {
        Place::Manager if asked.first => true,
        Place::Manager => roles.hop(caller).is_some() || roles.passes_on(service, caller),
        Place::Forwarder => roles.holds(Role::Manager, caller),
        Place::Endpoint => roles.hop(caller).is_some(),
    };
    if !may {
        let who = match place {
            Place::Manager => "forwarders, and endpoints of that service, pass on to a manager",
            Place::Forwarder => "managers alone call a forwarder",
            Place::Endpoint => "forwarders and managers alone call an endpoint",
        };
        return Err(asked.denied(format!(
            "connection {id}: {caller} may not bring it: {who} (the roles file names them)"
        )));
    }
    if roles.client_of(service, maker) {
        return Ok(());
    }
    Err(asked.denied(format!(
        "connection {id}: {maker} may not be a client of network service {service:?} (the roles file says who may)"
    )))
}

/// Whether whoever answered a call holds one of the roles that were called.
///
/// # Errors
/// The denial: nobody has been told of it yet.
pub fn answers(roles: &Roles, wanted: &[Role], peer: &SpiffeId) -> Result<(), Denial> {
    if wanted.iter().any(|role| roles.holds(*role, peer)) {
        return Ok(());
    }
    let names: Vec<_> = wanted.iter().map(|role| role.name()).collect();
    let names = names.join(" or a ");
    let why = format!(
        "{peer} answered where a {names} was called, and does not hold that role: nothing is sent to it \
         (the roles file says who does)"
    );
    Err(Denial::new(
        Kind::Answer,
        peer,
        format!("answer as a {names}"),
        why,
    ))
}

/// Whether somebody may answer as an endpoint that the registry has: its owner, whom a record
/// without one leaves open, or the manager through which it is reached.
///
/// # Errors
/// The denial: nobody has been told of it yet.
pub fn serves(
    roles: &Roles,
    peer: &SpiffeId,
    name: &str,
    owner: &str,
    service: &str,
) -> Result<(), Denial> {
    let owns = peer.as_str() == owner || (owner.is_empty() && roles.endpoint_of(service, peer));
    if owns || roles.holds(Role::Manager, peer) {
        return Ok(());
    }
    let why = format!(
        "{peer} answered where endpoint {name} of {owner:?} was called, and is no manager either: nothing is sent to it"
    );
    Err(Denial::new(
        Kind::Answer,
        peer,
        format!("answer as endpoint {name}"),
        why,
    ))
}

/// Whether somebody may register an endpoint of these services. Whoever carries everybody's
/// connections may offer anything.
///
/// # Errors
/// The denial: nobody has been told of it yet.
pub fn registers(
    roles: &Roles,
    maker: &SpiffeId,
    name: &str,
    services: &[String],
) -> Result<(), Denial> {
    if roles.hop(maker).is_some() {
        return Ok(());
    }
    let refused = services
        .iter()
        .find(|service| !roles.endpoint_of(service, maker));
    let Some(service) = refused else {
        return Ok(());
    };
    let why = format!(
        "endpoint {name}: {maker} may not be an endpoint of network service {service:?} (the roles file says who may)"
    );
    Err(Denial::new(
        Kind::Role,
        maker,
        format!("register endpoint {name}"),
        why,
    ))
}

/// Whether somebody may register a service, or take it back: an operator, or who may offer it.
///
/// # Errors
/// The denial: nobody has been told of it yet.
pub fn registers_service(roles: &Roles, maker: &SpiffeId, name: &str) -> Result<(), Denial> {
    let may = roles.hop(maker).is_some()
        || roles.holds(Role::Operator, maker)
        || roles.endpoint_of(name, maker);
    if may {
        return Ok(());
    }
    let why = format!(
        "network service {name:?}: {maker} is neither an operator nor may it be an endpoint of it (the roles file says \
         who may)"
    );
    Err(Denial::new(
        Kind::Role,
        maker,
        format!("register network service {name:?}"),
        why,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> Roles {
        let text = "clients:\n  vpn: /shop-*\n\
                    endpoints:\n  vpn: [/gateway-*, /firewall-*]\n  secret: []\n";
        Roles::load_yaml(text, &"nsm.test".parse().unwrap()).unwrap()
    }

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://nsm.test/{name}").parse().unwrap()
    }

    #[test]
    fn who_calls_whom() {
        use Place::{Endpoint, Forwarder, Manager};
        for (place, caller, first, maker, service, may) in [
            // A client at its manager.
            (Manager, "shop-1", true, "shop-1", "vpn", true),
            (Manager, "shop-1", true, "shop-1", "web", true),
            (Manager, "lab-1", true, "lab-1", "vpn", false),
            (Manager, "lab-1", true, "lab-1", "web", true),
            (Manager, "manager-2", true, "manager-2", "web", true),
            // Further on: hops, and who stands in the middle.
            (Manager, "forwarder-1", false, "shop-1", "vpn", true),
            (Manager, "manager-2", false, "shop-1", "vpn", true),
            (Manager, "firewall-1", false, "shop-1", "vpn", true),
            (Manager, "lab-1", false, "shop-1", "vpn", false),
            (Manager, "shop-2", false, "shop-1", "vpn", false),
            (Manager, "lab-1", false, "shop-1", "web", true),
            // The maker's right is looked at on every hop.
            (Manager, "forwarder-1", false, "lab-1", "vpn", false),
            (Forwarder, "manager-1", false, "shop-1", "vpn", true),
            (Forwarder, "manager-1", false, "lab-1", "vpn", false),
            (Forwarder, "shop-1", true, "shop-1", "vpn", false),
            (Forwarder, "shop-1", false, "shop-1", "vpn", false),
            (Forwarder, "forwarder-2", false, "shop-1", "vpn", false),
            (Endpoint, "forwarder-1", false, "shop-1", "vpn", true),
            (Endpoint, "manager-1", false, "shop-1", "vpn", true),
            (Endpoint, "shop-1", true, "shop-1", "vpn", false),
            (Endpoint, "gateway-2", false, "shop-1", "vpn", false),
        ] {
            let (by, of) = (id(caller), id(maker));
            let asked = Asked {
                caller: &by,
                first,
                maker: &of,
                service,
                id: "c-0",
            };
            let said = calls(&roles(), place, &asked);
            assert_eq!(said.is_ok(), may, "{place:?} {caller} {service}: {said:?}");
            if let Err(denial) = said {
                assert_eq!(denial.kind, Kind::Role);
                assert_eq!(denial.who, by.to_string());
                assert!(denial.why.contains("c-0"), "{denial}");
            }
        }
    }

    #[test]
    fn who_answers_and_registers() {
        let roles = roles();
        for (peer, wanted, may) in [
            ("manager-1", &[Role::Manager][..], true),
            ("manager-1", &[Role::Forwarder], false),
            ("manager-1", &[Role::Registry, Role::Manager], true),
            ("shop-1", &[Role::Registry, Role::Manager], false),
        ] {
            let said = answers(&roles, wanted, &id(peer));
            assert_eq!(said.is_ok(), may, "{peer} {wanted:?}: {said:?}");
        }
        for (peer, owner, service, may) in [
            ("gateway-1", "gateway-1", "vpn", true),
            ("gateway-2", "gateway-1", "vpn", false),
            ("manager-2", "gateway-1", "vpn", true),
            ("forwarder-2", "gateway-1", "vpn", false),
            ("gateway-2", "", "vpn", true),
            ("shop-1", "", "vpn", false),
        ] {
            let owner = match owner {
                "" => String::new(),
                owner => id(owner).to_string(),
            };
            let said = serves(&roles, &id(peer), "e", &owner, service);
            assert_eq!(said.is_ok(), may, "{peer} {owner}: {said:?}");
        }
        for (maker, services, may) in [
            ("gateway-1", &["vpn"][..], true),
            ("gateway-1", &["vpn", "web"], true),
            ("shop-1", &["web"], true),
            ("shop-1", &["web", "vpn"], false),
            ("shop-1", &["secret"], false),
            ("forwarder-1", &["secret"], true),
        ] {
            let services: Vec<_> = services.iter().map(|&one| one.to_owned()).collect();
            let said = registers(&roles, &id(maker), "e", &services);
            assert_eq!(said.is_ok(), may, "{maker} {services:?}: {said:?}");
        }
        for (maker, service, may) in [
            ("gateway-1", "vpn", true),
            ("shop-1", "vpn", false),
            ("shop-1", "web", true),
            ("operator/ada", "vpn", true),
            ("manager-1", "vpn", true),
        ] {
            let said = registers_service(&roles, &id(maker), service);
            assert_eq!(said.is_ok(), may, "{maker} {service}: {said:?}");
        }
    }
}
