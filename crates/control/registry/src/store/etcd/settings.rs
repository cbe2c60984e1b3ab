//! Where the cluster is, and how it is spoken to.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::BACKSTOP;

/// etcd's own port for clients.
const PORT: u16 = 2379;
/// Where a registry's keys begin if the URL does not say.
const PREFIX: &str = "nsm";
/// The most members that are named: etcd's own advice is seven at the most.
const MAX_MEMBERS: usize = 16;
/// How an address of a cluster begins.
const SCHEME: &str = "etcd://";

/// `etcd://host:port,host:port/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUrl {
    /// Host and port of each member.
    pub members: Vec<(String, u16)>,
    /// Where the keys begin, with a slash at its end.
    pub prefix: String,
}

/// Files for TLS to etcd, read again at each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities that sign the members' certificates.
    pub ca: PathBuf,
    /// PEM files of our own certificate and its key, where etcd asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// What an [`EtcdStore`](super::EtcdStore) is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// Where it is.
    pub url: EtcdUrl,
    /// TLS; without it the way there must be private.
    pub tls: Option<Tls>,
    /// Who we are to etcd, where its authentication is on.
    pub account: Option<Account>,
    /// How long after its end a row that nobody ended stays: [`BACKSTOP`].
    pub backstop: Duration,
}

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of etcd ({why}): write etcd://host:port,host:port/prefix")]
pub struct EtcdUrlError {
    text: String,
    why: String,
}

impl EtcdSettings {
    /// A cluster without TLS and users.
    #[must_use]
    pub fn of(url: EtcdUrl) -> Self {
        Self {
            url,
            tls: None,
            account: None,
            backstop: BACKSTOP,
        }
    }
}

impl fmt::Debug for Account {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.user)
    }
}

impl FromStr for EtcdUrl {
    type Err = EtcdUrlError;

    fn from_str(text: &str) -> Result<Self, EtcdUrlError> {
        let refuse = |why: String| EtcdUrlError {
            text: text.to_owned(),
            why,
        };
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| refuse(format!("it does not begin with {SCHEME}")))?;
        if rest.contains(['?', '#', '@']) || rest.contains(char::is_whitespace) {
            return Err(refuse(
                "users, questions and spaces have no place in it".to_owned(),
            ));
        }
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, PREFIX));
        let members = hosts
            .split(',')
            .map(member)
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)?;
        if members.len() > MAX_MEMBERS {
            return Err(refuse(format!(
                "{} members, at most {MAX_MEMBERS} are tried",
                members.len()
            )));
        }
        let prefix = match prefix.trim_matches('/') {
            "" => PREFIX,
            prefix => prefix,
        };
        Ok(Self {
            members,
            prefix: format!("/{prefix}/"),
        })
    }
}

fn member(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (
            host,
            port.parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("{port:?} is no port"))?,
        ),
        _ => (text, PORT),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    if bare.is_empty() || bare.contains(['[', ']']) || (bare == host && bare.contains(':')) {
        return Err(format!("{text:?} is no host and port"));
    }
    Ok((bare.to_owned(), port))
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.members.iter().map(authority).collect();
        write!(
            f,
            "{SCHEME}{}{}",
            members.join(","),
            self.prefix.trim_end_matches('/')
        )
    }
}

/// Host and port as a URL has them.
pub(super) fn authority((host, port): &(String, u16)) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The first key after all that begin like this.
pub(super) fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // To the last key of all.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, shown) in [
            ("etcd://a:1,b:2/x/y", "etcd://a:1,b:2/x/y"),
            ("etcd://a", "etcd://a:2379/nsm"),
            ("etcd://a/", "etcd://a:2379/nsm"),
            ("etcd://[::1]:7,[fd::2]", "etcd://[::1]:7,[fd::2]:2379/nsm"),
            ("etcd://10.0.0.1:2379/one/", "etcd://10.0.0.1:2379/one"),
        ] {
            let url: EtcdUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown, "{text}");
            assert!(url.prefix.starts_with('/') && url.prefix.ends_with('/'));
        }
        for (text, why) in [
            ("http://a", "does not begin with etcd://"),
            ("etcd://", "no host"),
            ("etcd://a,,b", "no host"),
            ("etcd://a:x", "no port"),
            ("etcd://a:0", "no port"),
            ("etcd://::1", "no host"),
            ("etcd://u:p@a", "have no place"),
        ] {
            let error = text.parse::<EtcdUrl>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let account = Account {
            user: "nsm".to_owned(),
            password: "secret".to_owned(),
        };
        let mut settings = EtcdSettings::of("etcd://a".parse().expect("an address"));
        settings.account = Some(account);
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(after("a/"), b"a0");
        assert_eq!(after("\u{7f}"), [0x80]);
        assert_eq!(after(""), [0]);
    }
}
