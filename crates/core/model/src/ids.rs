//! Connection identities: who owns a connection, and the id that each hop derives for it.

use std::fmt;

use hmac::digest::generic_array::GenericArray;
use hmac::{Hmac, Mac, digest::KeyInit};
use sha2::{Digest, Sha256};

use crate::spiffe::SpiffeId;

/// Bytes of a [`Secret`]: as long as the output of the hash it keys.
pub const SECRET_BYTES: usize = 32;

/// HMAC-SHA256's block, to which a shorter key is padded with zeros (RFC 2104 section 2).
const BLOCK_BYTES: usize = 64;

/// What a connection is keyed by on every hop: the identity of path segment 0 and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey {
    /// The client that made the connection.
    pub owner: SpiffeId,
    /// The id that client gave it (segment 0).
    pub id: String,
}

impl ConnectionKey {
    /// The first 16 bytes of a SHA-256 over owner and id: short enough for a link's alias, long
    /// enough that two connections never share it.
    pub fn digest(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        feed(self.owner.as_str(), |bytes| hash.update(bytes));
        feed(&self.id, |bytes| hash.update(bytes));
        first_16(&hash.finalize())
    }
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.owner)
    }
}

/// A hop's secret, from which it derives ids that nobody else can foresee.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Wraps random bytes that the caller drew or stored.
    pub fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored where only the role's user can read them.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The id of the hop named `hop` for the connection `key` that the hop before it calls
/// `upstream_id`: the same arguments give the same id, so a retried Request is the same Request.
///
/// The result has the shape of an RFC 4122 version 4 UUID, which the Go implementation expects.
pub fn derive_id(secret: &Secret, key: &ConnectionKey, upstream_id: &str, hop: &str) -> String {
    let mut block = [0; BLOCK_BYTES];
    block[..SECRET_BYTES].copy_from_slice(&secret.0);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(GenericArray::from_slice(&block));
    for field in [key.owner.as_str(), &key.id, upstream_id, hop] {
        feed(field, |bytes| mac.update(bytes));
    }
    uuid(first_16(&mac.finalize().into_bytes()))
}

/// Sixteen random or derived bytes as the text of a version 4 UUID (RFC 4122 section 4.4).
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(hex(byte >> 4));
        text.push(hex(byte & 0x0f));
    }
    text
}

/// Writes a field with its length first, so that no two lists of fields look alike.
fn feed(field: &str, mut update: impl FnMut(&[u8])) {
    update(&(field.len() as u64).to_be_bytes());
    update(field.as_bytes());
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: &str, id: &str) -> ConnectionKey {
        ConnectionKey {
            owner: owner.parse().unwrap(),
            id: id.to_owned(),
        }
    }

    #[test]
    fn derived_ids_are_stable_and_shaped_like_uuids() {
        let secret = Secret::new([7; SECRET_BYTES]);
        let a = key("spiffe://example.org/a", "nsc-0");
        let id = derive_id(&secret, &a, "nsc-0", "manager-node-1");
        assert_eq!(id, derive_id(&secret, &a, "nsc-0", "manager-node-1"));
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert!(
            id.bytes()
                .enumerate()
                .all(|(i, b)| matches!(i, 8 | 13 | 18 | 23) == (b == b'-'))
        );
    }

    #[test]
    fn every_argument_changes_the_id() {
        let secret = Secret::new([7; SECRET_BYTES]);
        let a = key("spiffe://example.org/a", "1");
        let all = [
            derive_id(&secret, &a, "up", "hop"),
            derive_id(&Secret::new([8; SECRET_BYTES]), &a, "up", "hop"),
            derive_id(&secret, &key("spiffe://example.org/b", "1"), "up", "hop"),
            derive_id(&secret, &key("spiffe://example.org/a", "2"), "up", "hop"),
            derive_id(&secret, &a, "u", "phop"),
            derive_id(&secret, &a, "up", "hop2"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_ne!(
            key("spiffe://example.org/a", "b").digest(),
            key("spiffe://example.org/a", "c").digest()
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(
            format!("{:?}", Secret::new([9; SECRET_BYTES])),
            "Secret(..)"
        );
    }

    #[test]
    fn hmac_matches_rfc_4231() {
        // RFC 4231 test case 2 has a 4-byte key; padded to a block it must give the same tag.
        let mut block = [0; BLOCK_BYTES];
        block[..4].copy_from_slice(b"Jefe");
        let mut mac = <Hmac<Sha256> as KeyInit>::new(GenericArray::from_slice(&block));
        mac.update(b"what do ya want for nothing?");
        assert_eq!(mac.finalize().into_bytes()[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
