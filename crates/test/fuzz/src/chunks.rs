//! Several messages in one input: each with its length before it.

/// Splits an input into chunks: two bytes of length, lowest first, then as many bytes as there are.
#[must_use]
pub fn chunks(mut data: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (chunk, rest) = rest.split_at(length);
        all.push(chunk);
        data = rest;
    }
    all
}

/// The input whose chunks these are; longer ones than 65,535 bytes are cut.
#[must_use]
pub fn join(all: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut data = Vec::new();
    for chunk in all {
        let chunk = chunk.as_ref();
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(&chunk[..usize::from(length)]);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let all: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(chunks(&join(&all)), all);
        assert_eq!(chunks(b"\x05\x00ab"), [b"ab"]);
        assert_eq!(chunks(b"\x01"), Vec::<&[u8]>::new());
    }
}
