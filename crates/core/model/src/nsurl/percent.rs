//! Percent-encoding (RFC 3986 section 2.1).

use std::fmt::{self, Write};

/// Decodes `%xx`, and '+' as a space where the text is of a query; the error says where it fails.
pub(super) fn decode(text: &str, plus: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().enumerate();
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'%' => {
                let high = rest.next().and_then(|(_, b)| char::from(b).to_digit(16));
                let low = rest.next().and_then(|(_, b)| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(format!(
                        "{text:?} has a broken %-escape at position {at}: write %25 for '%'"
                    ));
                };
                bytes.extend(u8::try_from(high * 16 + low));
            }
            b'+' if plus => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8 once decoded"))
}

/// Writes `text` so that [`decode`] gives it back from any place in a URL.
pub(super) fn encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}
