//! Interface names that the kernel accepts and that do not collide.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The kernel's limit: `IFNAMSIZ` without its closing zero byte.
pub const MAX_BYTES: usize = 15;

/// How much of the service's name a generated name shows (upstream `tools/nanoid`).
const SERVICE_CHARS: usize = 10;

/// Tries before [`IfName::choose`] gives up: with 20 random bits and 1,000 names in use the chance
/// of even one collision is .1 %, so that many in a row mean that the predicate is wrong.
const MAX_CHOICES: u32 = 64;

/// Lower-case base32 without look-alikes of a path or a flag.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a text is not the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IfNameError {
    /// Nothing.
    #[error("interface name is empty: give 1 to {MAX_BYTES} characters")]
    Empty,
    /// More than [`MAX_BYTES`].
    #[error("interface name {name:?} has {bytes} bytes, the kernel allows {MAX_BYTES}: shorten it")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// '/', ':', '%', white space or a control character.
    #[error("interface name {name:?} contains {character:?}, which the kernel refuses")]
    Character {
        /// The name as given.
        name: String,
        /// The first such character.
        character: char,
    },
    /// ".", "..", "all", "default": directories of the kernel's own.
    #[error("interface name {0:?} is reserved by the kernel: choose another")]
    Reserved(String),
    /// Every generated name is in use.
    #[error("no free interface name for service {service:?} after {MAX_CHOICES} choices")]
    Exhausted {
        /// The service whose interface needs a name.
        service: String,
    },
}

/// The name of a network interface, valid by construction (kernel `dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for an interface nobody named: ten characters of the service, '-', and base32 of
    /// the connection key's digest up to 15. The same arguments give the same name; `choice` counts
    /// up where a name is in use already.
    pub fn generate(service: &str, digest: &[u8; 16], choice: u32) -> Self {
        let mut name: String = service.chars().take(SERVICE_CHARS).map(harmless).collect();
        name.push('-');
        let mut hash = Sha256::new();
        hash.update(service.as_bytes());
        hash.update([0]);
        hash.update(digest);
        hash.update(choice.to_be_bytes());
        let room = MAX_BYTES - name.len();
        name.extend(
            hash.finalize()
                .iter()
                .take(room)
                .map(|byte| char::from(ALPHABET[usize::from(byte & 31)])),
        );
        Self(name)
    }

    /// The first generated name that is not `taken`.
    pub fn choose(
        service: &str,
        digest: &[u8; 16],
        mut taken: impl FnMut(&Self) -> bool,
    ) -> Result<Self, IfNameError> {
        (0..MAX_CHOICES)
            .map(|choice| Self::generate(service, digest, choice))
            .find(|name| !taken(name))
            .ok_or_else(|| IfNameError::Exhausted {
                service: service.to_owned(),
            })
    }
}

impl TryFrom<String> for IfName {
    type Error = IfNameError;

    fn try_from(name: String) -> Result<Self, IfNameError> {
        name.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        if text.is_empty() {
            return Err(IfNameError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(IfNameError::TooLong {
                name: text.to_owned(),
                bytes: text.len(),
            });
        }
        if let Some(character) = text.chars().find(|c| refused(*c)) {
            return Err(IfNameError::Character {
                name: text.to_owned(),
                character,
            });
        }
        if matches!(text, "." | ".." | "all" | "default") {
            return Err(IfNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// '%' is a pattern to the kernel ("eth%d"), the others `dev_valid_name` refuses.
fn refused(c: char) -> bool {
    matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()
}

fn harmless(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
        c
    } else {
        '-'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_takes_or_refuses() {
        for name in ["nsm-1", "a", "abcdefghijklmno", "eth0.5", "ä"] {
            assert_eq!(name.parse::<IfName>().unwrap().as_str(), name);
        }
        for (name, says) in [
            ("", "is empty"),
            ("abcdefghijklmnop", "has 16 bytes, the kernel allows 15"),
            ("a/b", "contains '/'"),
            ("a b", "contains ' '"),
            ("a:b", "contains ':'"),
            ("eth%d", "contains '%'"),
            ("a\0b", "contains '\\0'"),
            (".", "reserved"),
            ("..", "reserved"),
            ("default", "reserved"),
        ] {
            let error = name.parse::<IfName>().unwrap_err().to_string();
            assert!(error.contains(says), "{name:?}: {error}");
        }
    }

    #[test]
    fn generated_names_are_valid_stable_and_show_the_service() {
        for (service, starts) in [
            ("vpn", "vpn-"),
            ("secure-intranet-connectivity", "secure-int-"),
            ("a/b c@domain", "a-b-c-doma-"),
            ("ünïcode", "-n-code-"),
            ("", "-"),
        ] {
            let name = IfName::generate(service, &[1; 16], 0);
            assert!(name.as_str().starts_with(starts), "{name}");
            assert_eq!(name.as_str().len(), MAX_BYTES);
            assert_eq!(name.as_str().parse::<IfName>().unwrap(), name);
            assert_eq!(name, IfName::generate(service, &[1; 16], 0));
            assert_ne!(name, IfName::generate(service, &[2; 16], 0));
        }
    }

    #[test]
    fn a_name_in_use_gets_a_second_choice() {
        let first = IfName::generate("vpn", &[1; 16], 0);
        let second = IfName::choose("vpn", &[1; 16], |name| *name == first).unwrap();
        assert_eq!(second, IfName::generate("vpn", &[1; 16], 1));
        assert_ne!(first, second);
        let error = IfName::choose("vpn", &[1; 16], |_| true).unwrap_err();
        assert_eq!(
            error,
            IfNameError::Exhausted {
                service: "vpn".to_owned()
            }
        );
    }
}
