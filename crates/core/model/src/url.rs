//! URLs of the wire: where an endpoint listens, and which file a passed descriptor is.

use std::fmt;
use std::str::FromStr;

/// Where an endpoint, manager or registry is reached. Parsing never loses a byte: what is not one
/// of the known forms, written in its one canonical way, is kept whole as [`EndpointUrl::Other`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointUrl {
    /// `tcp://host:port`; an IPv6 host is kept without its brackets.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port number.
        port: u16,
    },
    /// `unix:///absolute/path`.
    Unix(String),
    /// `inode://dev/ino`: a socket whose descriptor was passed beside the message.
    Inode(InodeUrl),
    /// Anything else, untouched.
    Other(String),
}

impl EndpointUrl {
    /// Reads a URL; never fails.
    pub fn parse(text: &str) -> Self {
        let known = parse_tcp(text)
            .or_else(|| {
                text.strip_prefix("unix://")
                    .filter(|p| p.starts_with('/'))
                    .map(|p| Self::Unix(p.to_owned()))
            })
            .or_else(|| text.parse().ok().map(Self::Inode));
        match known {
            Some(url) if url.to_string() == text => url,
            Some(_) | None => Self::Other(text.to_owned()),
        }
    }

    /// Whether it can be reached from this node alone (a unix socket, by path or by descriptor).
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Inode(_) => true,
            Self::Tcp { .. } => false,
            Self::Other(text) => text.starts_with("unix:") || text.starts_with("inode:"),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Inode(inode) => inode.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl FromStr for EndpointUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl From<&str> for EndpointUrl {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

fn parse_tcp(text: &str) -> Option<EndpointUrl> {
    let (host, port) = text.strip_prefix("tcp://")?.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() || bare.contains(['/', '?', '#', '[', ']']) {
        return None;
    }
    Some(EndpointUrl::Tcp {
        host: bare.to_owned(),
        port: port.parse().ok()?,
    })
}

/// Why a text is not an `inode://` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an inode URL: write inode://<device>/<inode> with decimal numbers")]
pub struct InodeUrlError(pub String);

/// `inode://dev/ino`: names a file by device and inode, whose descriptor crosses the unix socket
/// beside the message (edwarnicke/grpcfd).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeUrl {
    /// The file system's device number.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
}

impl fmt::Display for InodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode://{}/{}", self.dev, self.ino)
    }
}

impl FromStr for InodeUrl {
    type Err = InodeUrlError;

    fn from_str(text: &str) -> Result<Self, InodeUrlError> {
        let error = || InodeUrlError(text.to_owned());
        let (dev, ino) = text
            .strip_prefix("inode://")
            .and_then(|r| r.split_once('/'))
            .ok_or_else(error)?;
        Ok(Self {
            dev: dev.parse().map_err(|_| error())?,
            ino: ino.parse().map_err(|_| error())?,
        })
    }
}

/// A network namespace as the mechanism parameter `inodeURL` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetnsUrl {
    /// By inode; its descriptor crossed the socket.
    Inode(InodeUrl),
    /// `file:///proc/...`: a path in the process that wrote it, kept whole.
    File(String),
    /// Anything else, untouched.
    Other(String),
}

impl NetnsUrl {
    /// What clients put there before the descriptor is sent: the caller's own namespace.
    pub const THREAD_SELF: &'static str = "file:///proc/thread-self/ns/net";

    /// Reads a URL; never fails.
    pub fn parse(text: &str) -> Self {
        match text.parse::<InodeUrl>() {
            Ok(inode) if inode.to_string() == text => Self::Inode(inode),
            Ok(_) | Err(_) => match text.strip_prefix("file://") {
                Some(path) if path.starts_with('/') => Self::File(path.to_owned()),
                Some(_) | None => Self::Other(text.to_owned()),
            },
        }
    }
}

impl fmt::Display for NetnsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => inode.fmt(f),
            Self::File(path) => write!(f, "file://{path}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> EndpointUrl {
        EndpointUrl::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn endpoint_urls_are_read_and_printed_back() {
        let other = |text: &str| EndpointUrl::Other(text.to_owned());
        for (text, url, local) in [
            ("tcp://10.0.0.1:5001", tcp("10.0.0.1", 5001), false),
            ("tcp://[fd00::1]:5001", tcp("fd00::1", 5001), false),
            ("tcp://manager.nsm:1", tcp("manager.nsm", 1), false),
            (
                "unix:///run/nsm/m.sock",
                EndpointUrl::Unix("/run/nsm/m.sock".to_owned()),
                true,
            ),
            (
                "inode://4/4026",
                EndpointUrl::Inode(InodeUrl { dev: 4, ino: 4026 }),
                true,
            ),
            ("unix:relative", other("unix:relative"), true),
            ("tcp://:5001", other("tcp://:5001"), false),
            ("tcp://fd00::1:5001", other("tcp://fd00::1:5001"), false),
            ("tcp://host:05001", other("tcp://host:05001"), false),
            ("tcp://host:99999", other("tcp://host:99999"), false),
            ("inode://4/x", other("inode://4/x"), true),
            ("quic://host:1?a=b", other("quic://host:1?a=b"), false),
            ("", other(""), false),
        ] {
            let parsed = EndpointUrl::parse(text);
            assert_eq!(parsed, url, "{text}");
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.is_local(), local, "{text}");
        }
    }

    #[test]
    fn namespace_urls() {
        for (text, url) in [
            (
                "inode://4/4026532000",
                NetnsUrl::Inode(InodeUrl {
                    dev: 4,
                    ino: 4_026_532_000,
                }),
            ),
            (
                NetnsUrl::THREAD_SELF,
                NetnsUrl::File("/proc/thread-self/ns/net".to_owned()),
            ),
            ("inode://04/1", NetnsUrl::Other("inode://04/1".to_owned())),
        ] {
            assert_eq!(NetnsUrl::parse(text), url);
            assert_eq!(url.to_string(), text);
        }
        let error = "inode://x/1".parse::<InodeUrl>().unwrap_err().to_string();
        assert!(
            error.contains("\"inode://x/1\" is not an inode URL"),
            "{error}"
        );
    }
}
