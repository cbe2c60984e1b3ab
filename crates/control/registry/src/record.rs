//! The registry's two kinds of record, and by what each is found (wire contract 3.1).

use std::time::{SystemTime, UNIX_EPOCH};

use buffa::Message;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::{Destination, Match, NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Code, Endpoints, Error, Kind, Services};
use nsm_model::spiffe::SpiffeId;
use nsm_policy::{
    denial::Denial,
    roles::{self, Roles},
};

use crate::registry::{Verdict, Views, rules};
use crate::watch::View;

/// The longest name: a Kubernetes name (253 bytes), an `@`, a domain (253), and room for more.
pub const MAX_NAME_BYTES: usize = 1024;

/// The most services, labels, matches and routes of one record: an index holds one place for each,
/// or a request walks them, and a Kubernetes object's own limit (1.5 MB) allows far more than
/// anybody uses.
pub const MAX_TERMS: usize = 1024;

/// The largest record in bytes: as many as a store and all its watchers can hold many times over.
pub const MAX_RECORD_BYTES: u32 = 256 * 1024;

/// One thing that a record is found by; the most telling kind first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// Its name.
    Name(String),
    /// An endpoint's URL, whole.
    Url(String),
    /// An endpoint's label for a service.
    Label {
        /// The service that the label is for.
        service: String,
        /// The label's name.
        key: String,
        /// The label's value.
        value: String,
    },
    /// An endpoint that has labels for this service, maybe none.
    Labelled(String),
    /// A service that an endpoint offers.
    Service(String),
    /// A service's payload.
    Payload(String),
}

/// A kind of record: [`Services`] or [`Endpoints`].
pub trait Record: Kind<Item: Message + PartialEq> {
    /// Where its keys begin in a store.
    const PREFIX: &'static str;

    /// Everything that a record is found by, its name aside.
    fn terms(item: &Self::Item) -> Vec<Term>;

    /// How much there is to hold or to walk: [`MAX_TERMS`] at most.
    fn parts(item: &Self::Item) -> usize {
        Self::terms(item).len()
    }

    /// What every match of a query has, the name aside.
    fn wanted(query: &Self::Item) -> Vec<Term>;

    /// Whether a record is one that a query asks for; an empty field asks for any.
    fn matches(query: &Self::Item, item: &Self::Item) -> bool;

    /// Who passed it on: the SPIFFE ID of each hop, that of its maker first.
    fn path_ids(item: &Self::Item) -> &[String];

    /// The same, to change.
    fn path_ids_mut(item: &mut Self::Item) -> &mut Vec<String>;

    /// A record of this name and nothing else.
    fn named(name: &str) -> Self::Item;

    /// A record without a name, which says how far a copy is: no registry stores one.
    fn mark(text: String) -> Self::Item;

    /// What a mark says; `None` of a record.
    fn marked(item: &Self::Item) -> Option<&str>;

    /// When it ends unless it is registered again.
    fn expires(item: &Self::Item) -> Option<SystemTime>;

    /// Gives it at least this long.
    fn extend(item: &mut Self::Item, until: SystemTime);

    /// What registering `new` does to what is there now.
    ///
    /// # Errors
    /// `PermissionDenied` and `FailedPrecondition`.
    fn decide(current: &Self::Item, new: &Self::Item) -> Result<Verdict, Error>;

    /// Whether its maker may register it, by the roles in force.
    ///
    /// # Errors
    /// The denial: nobody has been told of it yet.
    fn offered(roles: &Roles, maker: &SpiffeId, item: &Self::Item) -> Result<(), Denial>;

    /// Its part of a registry.
    #[doc(hidden)]
    fn view(views: &Views) -> &std::sync::Arc<View<Self>>
    where
        Self: Sized;
}

/// Whoever registered a record: it alone may change or unregister it.
pub fn owner<R: Record>(item: &R::Item) -> Option<&str> {
    R::path_ids(item)
        .first()
        .map(String::as_str)
        .filter(|id| !id.is_empty())
}

/// Refuses a record that no index should hold.
///
/// # Errors
/// `InvalidArgument` names the limit that it is beyond.
pub fn check<R: Record>(item: &R::Item) -> Result<(), Error> {
    let name = R::id(item);
    let refuse = |message: String| Err(Error::new(Code::InvalidArgument, message));
    if name.is_empty() {
        return refuse(format!("{}: name must not be empty", R::NAME));
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse(format!(
            "{}: name has {} bytes, at most {MAX_NAME_BYTES} are allowed",
            R::NAME,
            name.len()
        ));
    }
    let parts = R::parts(item);
    if parts > MAX_TERMS {
        return refuse(format!(
            "{} {name:?} has {parts} services, labels, matches and routes, at most {MAX_TERMS} are allowed",
            R::NAME
        ));
    }
    let bytes = item.encoded_len();
    if bytes > MAX_RECORD_BYTES {
        return refuse(format!(
            "{} {name:?} has {bytes} bytes, at most {MAX_RECORD_BYTES} are allowed",
            R::NAME
        ));
    }
    Ok(())
}

/// A time of the wire; one before 1970 counts as 1970.
#[must_use]
pub fn time(stamp: &Timestamp) -> SystemTime {
    SystemTime::try_from(stamp.clone()).unwrap_or(UNIX_EPOCH)
}

impl Record for Services {
    const PREFIX: &'static str = "ns/";

    fn terms(item: &NetworkService) -> Vec<Term> {
        vec![Term::Payload(item.payload.clone())]
    }

    fn parts(item: &NetworkService) -> usize {
        let route = |route: &Destination| 1 + route.destination_selector.len();
        let rule = |rule: &Match| {
            let labels = rule.source_selector.len() + rule.metadata.labels.len();
            1 + labels + rule.routes.iter().map(route).sum::<usize>()
        };
        item.matches.iter().map(rule).sum()
    }

    fn wanted(query: &NetworkService) -> Vec<Term> {
        let payload = Some(&query.payload).filter(|payload| !payload.is_empty());
        payload
            .map(|payload| Term::Payload(payload.clone()))
            .into_iter()
            .collect()
    }

    fn matches(query: &NetworkService, item: &NetworkService) -> bool {
        any_or_equal(&query.name, &item.name)
            && any_or_equal(&query.payload, &item.payload)
            && (query.matches.is_empty() || query.matches == item.matches)
    }

    fn path_ids(item: &NetworkService) -> &[String] {
        &item.path_ids
    }

    fn path_ids_mut(item: &mut NetworkService) -> &mut Vec<String> {
        &mut item.path_ids
    }

    fn named(name: &str) -> NetworkService {
        NetworkService {
            name: name.to_owned(),
            ..Default::default()
        }
    }

    fn mark(payload: String) -> NetworkService {
        NetworkService {
            payload,
            ..Default::default()
        }
    }

    fn marked(item: &NetworkService) -> Option<&str> {
        item.name.is_empty().then_some(item.payload.as_str())
    }

    fn expires(_: &NetworkService) -> Option<SystemTime> {
        None
    }

    fn extend(_: &mut NetworkService, _: SystemTime) {}

    fn decide(current: &NetworkService, new: &NetworkService) -> Result<Verdict, Error> {
        rules::service(current, new)
    }

    fn offered(roles: &Roles, maker: &SpiffeId, item: &NetworkService) -> Result<(), Denial> {
        roles::registers_service(roles, maker, &item.name)
    }

    fn view(views: &Views) -> &std::sync::Arc<View<Self>> {
        &views.services
    }
}

impl Record for Endpoints {
    const PREFIX: &'static str = "nse/";

    fn terms(item: &NetworkServiceEndpoint) -> Vec<Term> {
        let mut terms: Vec<Term> = item
            .network_service_names
            .iter()
            .cloned()
            .map(Term::Service)
            .collect();
        terms.push(Term::Url(item.url.clone()));
        for (service, labels) in &item.network_service_labels {
            terms.push(Term::Labelled(service.clone()));
            terms.extend(
                labels
                    .labels
                    .iter()
                    .map(|(key, value)| label(service, key, value)),
            );
        }
        terms
    }

    fn wanted(query: &NetworkServiceEndpoint) -> Vec<Term> {
        let mut wanted = Self::terms(query);
        wanted.retain(|term| !matches!(term, Term::Url(url) if url.is_empty()));
        wanted
    }

    fn matches(query: &NetworkServiceEndpoint, item: &NetworkServiceEndpoint) -> bool {
        any_or_equal(&query.name, &item.name)
            && any_or_equal(&query.url, &item.url)
            && query
                .network_service_names
                .iter()
                .all(|service| item.network_service_names.contains(service))
            && query
                .network_service_labels
                .iter()
                .all(|(service, wanted)| {
                    item.network_service_labels.get(service).is_some_and(|has| {
                        wanted
                            .labels
                            .iter()
                            .all(|(key, value)| has.labels.get(key) == Some(value))
                    })
                })
            && (!query.expiration_time.is_set()
                || query.expiration_time.seconds == item.expiration_time.seconds)
    }

    fn path_ids(item: &NetworkServiceEndpoint) -> &[String] {
        &item.path_ids
    }

    fn path_ids_mut(item: &mut NetworkServiceEndpoint) -> &mut Vec<String> {
        &mut item.path_ids
    }

    fn named(name: &str) -> NetworkServiceEndpoint {
        NetworkServiceEndpoint {
            name: name.to_owned(),
            ..Default::default()
        }
    }

    fn mark(url: String) -> NetworkServiceEndpoint {
        NetworkServiceEndpoint {
            url,
            ..Default::default()
        }
    }

    fn marked(item: &NetworkServiceEndpoint) -> Option<&str> {
        item.name.is_empty().then_some(item.url.as_str())
    }

    fn expires(item: &NetworkServiceEndpoint) -> Option<SystemTime> {
        item.expiration_time.as_option().map(time)
    }

    fn extend(item: &mut NetworkServiceEndpoint, until: SystemTime) {
        if Self::expires(item).is_some_and(|expires| expires < until) {
            item.expiration_time = buffa::MessageField::some(Timestamp::from(until));
        }
    }

    fn decide(
        current: &NetworkServiceEndpoint,
        new: &NetworkServiceEndpoint,
    ) -> Result<Verdict, Error> {
        rules::endpoint(current, new)
    }

    fn offered(
        roles: &Roles,
        maker: &SpiffeId,
        item: &NetworkServiceEndpoint,
    ) -> Result<(), Denial> {
        roles::registers(roles, maker, &item.name, &item.network_service_names)
    }

    fn view(views: &Views) -> &std::sync::Arc<View<Self>> {
        &views.endpoints
    }
}

fn any_or_equal(wanted: &str, has: &str) -> bool {
    wanted.is_empty() || wanted == has
}

fn label(service: &str, key: &str, value: &str) -> Term {
    Term::Label {
        service: service.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}
