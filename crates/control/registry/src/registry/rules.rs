//! Who may register what in place of what is there.

use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Code, Endpoints, Error, Services};
use nsm_policy::{
    denial::{Denial, Kind},
    standard::client_allowed,
};

use crate::record::{Record, owner};

/// What registering a record does to the one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes its place.
    Write,
    /// The stored one stays, and is the answer.
    Keep,
}

/// A service without matches is what endpoints register; one with matches is an operator's.
pub(crate) fn service(current: &NetworkService, new: &NetworkService) -> Result<Verdict, Error> {
    let ours = client_allowed(owner::<Services>(current), owner::<Services>(new));
    let (bare, replaces_bare) = (new.matches.is_empty(), current.matches.is_empty());
    if !bare {
        return if ours || replaces_bare {
            Ok(Verdict::Write)
        } else {
            Err(foreign::<Services>(current, new, "change"))
        };
    }
    if ours && replaces_bare {
        return Ok(Verdict::Write);
    }
    if new.payload.is_empty() || new.payload == current.payload {
        return Ok(Verdict::Keep);
    }
    let message = format!(
        "network service {:?} carries payload {:?}, as {} registered it, and not {:?}: offer that, or another service",
        current.name,
        current.payload,
        owner::<Services>(current).unwrap_or("somebody"),
        new.payload,
    );
    Err(Error::new(Code::FailedPrecondition, message))
}

pub(crate) fn endpoint(
    current: &NetworkServiceEndpoint,
    new: &NetworkServiceEndpoint,
) -> Result<Verdict, Error> {
    if client_allowed(owner::<Endpoints>(current), owner::<Endpoints>(new)) {
        Ok(Verdict::Write)
    } else {
        Err(foreign::<Endpoints>(current, new, "register"))
    }
}

/// Whether whoever sent `by` may end `current`.
pub(crate) fn may_end<R: Record>(current: &R::Item, by: &R::Item) -> Result<(), Error> {
    if client_allowed(owner::<R>(current), owner::<R>(by)) {
        Ok(())
    } else {
        Err(foreign::<R>(current, by, "unregister"))
    }
}

fn foreign<R: Record>(current: &R::Item, new: &R::Item, what: &str) -> Error {
    let who = owner::<R>(new).unwrap_or("a caller without identity");
    let (kind, name) = (R::NAME, R::id(current));
    let why = format!(
        "{kind} {name:?} belongs to {}; {who} may not {what} it: use another name, or have its owner or an operator \
         unregister it",
        owner::<R>(current).unwrap_or("nobody"),
    );
    Error::denied(&Denial::new(
        Kind::Name,
        who,
        format!("{what} {kind} {name:?}"),
        why,
    ))
}
