//! Connections as a whole, put together from what each hop of theirs tells.

use std::{collections::BTreeMap, time::SystemTime};

use nsm_api::connection::{Connection, PathSegment, State};
use serde::Serialize;

use super::output::{rfc3339, until};

/// One client's connection, and each hop's view of it by the hop's place on the path.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// At least one.
    views: BTreeMap<usize, Connection>,
}

/// Puts views together that begin at the same client with the same id; sorted by them.
pub(crate) fn gather(connections: impl IntoIterator<Item = Connection>) -> Vec<Flow> {
    let mut flows: BTreeMap<(String, String), Flow> = BTreeMap::new();
    for connection in connections {
        let Some(first) = connection.path.path_segments.first() else {
            continue;
        };
        let key = (first.name.clone(), first.id.clone());
        let views = BTreeMap::new();
        let flow = flows.entry(key).or_insert(Flow { views });
        let index = connection.path.index as usize;
        flow.views.insert(index, connection);
    }
    flows.into_values().collect()
}

impl Flow {
    /// The view of the hop at this place.
    pub(crate) fn view(&self, index: usize) -> Option<&Connection> {
        self.views.get(&index)
    }

    /// Every view, by place.
    pub(crate) fn views(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.views.iter().map(|(index, view)| (*index, view))
    }

    /// What the client sees, or whoever is nearest to it.
    pub(crate) fn first(&self) -> &Connection {
        self.views.values().next().unwrap_or(&NOTHING)
    }

    /// The path as the hop furthest on it sees it: those before it may not have heard yet that
    /// a function between has healed its own leg.
    pub(crate) fn path(&self) -> &[PathSegment] {
        let last = self.views.values().next_back();
        last.map_or(&[], |view| view.path.path_segments.as_slice())
    }

    /// The client's name.
    pub(crate) fn client(&self) -> &str {
        self.path().first().map_or("", |segment| &segment.name)
    }

    /// The client's name of the connection.
    pub(crate) fn id(&self) -> &str {
        self.path().first().map_or("", |segment| &segment.id)
    }

    /// Where the path ends.
    pub(crate) fn endpoint(&self) -> &str {
        self.path().last().map_or("", |segment| &segment.name)
    }

    /// The worst of what any hop says.
    pub(crate) fn state(&self) -> String {
        let worst = |view: &&Connection| view.state.as_known().map_or(0, severity);
        self.views
            .values()
            .rev()
            .max_by_key(worst)
            .map(state)
            .unwrap_or_default()
    }

    /// The first of the ends that any hop has set.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.path().iter().filter_map(ends).min()
    }
}

/// Stands for a flow without views, which [`gather`] never makes.
static NOTHING: std::sync::LazyLock<Connection> = std::sync::LazyLock::new(Connection::default);

fn severity(state: State) -> u8 {
    match state {
        State::UP => 0,
        State::REFRESH_REQUESTED => 1,
        State::RESELECT_REQUESTED => 2,
        State::DOWN => 3,
    }
}

/// A state by its name on the wire; an unknown one by its number.
pub(crate) fn state(connection: &Connection) -> String {
    match connection.state.as_known() {
        Some(known) => format!("{known:?}").to_uppercase(),
        None => connection.state.to_i32().to_string(),
    }
}

/// When a hop's token ends.
pub(crate) fn ends(segment: &PathSegment) -> Option<SystemTime> {
    let expires = segment.expires.as_option()?;
    SystemTime::try_from(expires.clone()).ok()
}

/// The addresses of both ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Addresses {
    pub(crate) client: Vec<String>,
    pub(crate) endpoint: Vec<String>,
}

impl Addresses {
    /// Of a connection.
    pub(crate) fn of(connection: &Connection) -> Self {
        let ip = &connection.context.ip_context;
        Self {
            client: ip.src_ip_addrs.clone(),
            endpoint: ip.dst_ip_addrs.clone(),
        }
    }

    /// The client's and the endpoint's, without the length of a single host's prefix.
    fn text(&self) -> String {
        let side = |side: &[String]| {
            let bare = |text: &String| {
                let host = text.strip_suffix(if text.contains(':') { "/128" } else { "/32" });
                host.unwrap_or(text).to_owned()
            };
            side.iter().map(bare).collect::<Vec<_>>().join(",")
        };
        match (side(&self.client), side(&self.endpoint)) {
            (client, endpoint) if endpoint.is_empty() => client,
            (client, endpoint) => format!("{client} > {endpoint}"),
        }
    }
}

/// A connection in the overview: a shape that stays.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Overview {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) service: String,
    /// The last hop.
    pub(crate) endpoint: String,
    /// Names, the client's first.
    pub(crate) hops: Vec<String>,
    pub(crate) state: String,
    pub(crate) addresses: Addresses,
    /// 0 where nobody has set one.
    pub(crate) mtu: u32,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    #[serde(skip)]
    ends: Option<SystemTime>,
}

impl Overview {
    /// Of a connection.
    pub(crate) fn new(flow: &Flow) -> Self {
        let ends = flow.ends();
        Self {
            id: flow.id().to_owned(),
            client: flow.client().to_owned(),
            service: flow.first().network_service.clone(),
            endpoint: flow.endpoint().to_owned(),
            hops: flow.path().iter().map(|hop| hop.name.clone()).collect(),
            state: flow.state(),
            addresses: Addresses::of(flow.first()),
            mtu: flow.first().context.MTU,
            expires: ends.map(rfc3339),
            ends,
        }
    }

    /// Its line of a table, below [`Overview::HEADINGS`].
    pub(crate) fn row(&self, now: SystemTime) -> Vec<String> {
        vec![
            self.id.clone(),
            self.client.clone(),
            self.service.clone(),
            self.endpoint.clone(),
            self.state.clone(),
            self.addresses.text(),
            self.ends.map(|ends| until(ends, now)).unwrap_or_default(),
            self.hops.join(" "),
        ]
    }

    pub(crate) const HEADINGS: [&str; 8] = [
        "ID",
        "CLIENT",
        "SERVICE",
        "ENDPOINT",
        "STATE",
        "ADDRESSES",
        "EXPIRES",
        "HOPS",
    ];
}
