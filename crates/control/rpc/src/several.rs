//! Several addresses for one service: whoever answers first is connected to.
//!
//! A name that resolves to several addresses, and a list of hosts, are tried one after another,
//! each as soon as the one before it failed or took too long, so that a replica that is dead, hangs
//! or refuses costs no request.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use nsm_chain::{Code, Error};
use nsm_model::url::EndpointUrl;
use tokio::net::lookup_host;

/// After this time without an answer the next address is tried as well (RFC 8305 advises 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// How many addresses are tried at most: replicas are few, and each attempt costs a handshake.
const MAX_ADDRESSES: usize = 16;

/// How the addresses begin.
const SCHEME: &str = "tcp://";

/// Host and port.
pub(crate) type Place = (String, u16);

/// The places of `tcp://host:port,host:port`; `None` of any other text, and of one place.
#[must_use]
pub(crate) fn places(text: &str) -> Option<Vec<Place>> {
    let list: Option<Vec<Place>> = text
        .strip_prefix(SCHEME)?
        .split(',')
        .map(|one| one.strip_prefix(SCHEME).unwrap_or(one))
        .map(|one| match EndpointUrl::parse(&format!("{SCHEME}{one}")) {
            EndpointUrl::Tcp { host, port } if port > 0 => Some((host, port)),
            EndpointUrl::Tcp { .. }
            | EndpointUrl::Unix(_)
            | EndpointUrl::Inode(_)
            | EndpointUrl::Other(_) => None,
        })
        .collect();
    list.filter(|list| (2..=MAX_ADDRESSES).contains(&list.len()))
}

/// Whether a URL is a list of several TCP addresses, any of which will do.
#[must_use]
pub fn is_list(url: &EndpointUrl) -> bool {
    places(&url.to_string()).is_some()
}

/// As a URL says it.
pub(crate) fn show(places: &[Place]) -> String {
    let one = |(host, port): &Place| {
        let url = EndpointUrl::Tcp {
            host: host.clone(),
            port: *port,
        };
        url.to_string().trim_start_matches(SCHEME).to_owned()
    };
    let all: Vec<String> = places.iter().map(one).collect();
    format!("{SCHEME}{}", all.join(","))
}

/// The addresses of all places, beginning with the one that falls to us: each process prefers one
/// replica, and together they prefer all.
pub(crate) async fn addresses(places: &[Place], own: &str) -> io::Result<Vec<SocketAddr>> {
    let share = own.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let first = share % places.len().max(1);
    let (before, from) = places.split_at(first);
    let mut all = Vec::new();
    let mut failed = None;
    for (host, port) in from.iter().chain(before) {
        match lookup_host((host.as_str(), *port)).await {
            Ok(found) => all.extend(found),
            Err(error) => failed = Some(error),
        }
    }
    all.truncate(MAX_ADDRESSES);
    match failed {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// The first attempt that works; else the most telling failure.
pub(crate) async fn first<'a, T>(
    candidates: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<T, Error> {
    let mut waiting = candidates.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed: Option<Error> = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(attempt(address)),
            None if running.is_empty() => {
                return Err(failed
                    .unwrap_or_else(|| Error::new(Code::Unavailable, "its name has no address")));
            }
            None => {}
        }
        tokio::select! {
            biased;
            Some(done) = running.next() => match done {
                Ok(made) => return Ok(made),
                Err(error) if error.code != Code::Unavailable => failed = Some(error),
                Err(error) => failed = failed.or(Some(error)),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_from_addresses() {
        for (text, shown) in [
            ("tcp://a:1,b:2", Some("tcp://a:1,b:2")),
            ("tcp://a:1,tcp://b:2", Some("tcp://a:1,b:2")),
            ("tcp://[::1]:1,10.0.0.1:2", Some("tcp://[::1]:1,10.0.0.1:2")),
            ("tcp://a:1", None),
            ("tcp://a:1,b", None),
            ("tcp://a:1,b:0", None),
            ("tcp://a:1,", None),
            ("unix:///a,b", None),
        ] {
            let found = places(text).map(|places| show(&places));
            assert_eq!(found.as_deref(), shown, "{text}");
        }
        let many = vec!["a:1"; MAX_ADDRESSES + 1].join(",");
        assert!(places(&format!("tcp://{many}")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_is_taken() {
        let of = |ports: &[u16]| -> Vec<SocketAddr> {
            let address = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
            ports.iter().map(address).collect()
        };
        // 1 fails, 2 hangs, 3 answers, 4 refuses us.
        let attempt = |address: SocketAddr| -> BoxFuture<'static, Result<u16, Error>> {
            Box::pin(async move {
                match address.port() {
                    1 => Err(Error::new(Code::Unavailable, "away")),
                    2 => std::future::pending().await,
                    4 => Err(Error::new(Code::Unauthenticated, "refused")),
                    port => Ok(port),
                }
            })
        };
        for (ports, expected, most) in [
            (&[3][..], Ok(3), Duration::ZERO),
            (&[1, 3], Ok(3), Duration::ZERO),
            (&[2, 3], Ok(3), STAGGER),
            (&[2, 2, 1, 3], Ok(3), STAGGER * 2),
            (&[4, 1], Err(Code::Unauthenticated), Duration::ZERO),
            (&[], Err(Code::Unavailable), Duration::ZERO),
        ] {
            let start = tokio::time::Instant::now();
            let made = first(of(ports), attempt).await.map_err(|error| error.code);
            assert_eq!(made, expected, "{ports:?}");
            assert!(
                start.elapsed() <= most + Duration::from_millis(1),
                "{ports:?}"
            );
        }
    }
}
