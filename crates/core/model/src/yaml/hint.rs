//! What people get wrong in YAML, and the text they meant.

use super::YamlError;

/// Characters that text processors put in place of the ones that YAML knows.
const LOOK_ALIKES: &[(char, &str, &str)] = &[
    ('\u{a0}', "a no-break space", " "),
    ('\u{2003}', "an em space", " "),
    ('\u{201c}', "a typographic quote", "\""),
    ('\u{201d}', "a typographic quote", "\""),
    ('\u{2018}', "a typographic quote", "'"),
    ('\u{2019}', "a typographic quote", "'"),
];

/// Edits between a key and the one that was meant, at most.
const MAX_EDITS: usize = 2;

/// Refuses what an article's typesetting does to a listing: YAML would read it as part of a text.
pub(super) fn check_characters(source: &str) -> Result<(), YamlError> {
    for (number, line) in (1..).zip(source.lines()) {
        let code = line.split(" #").next().unwrap_or("");
        if code.trim_start().starts_with('#') {
            continue;
        }
        if let Some((_, what, _)) = LOOK_ALIKES.iter().find(|(c, ..)| code.contains(*c)) {
            let mut right = code.to_owned();
            for (character, _, plain) in LOOK_ALIKES {
                right = right.replace(*character, plain);
            }
            return Err(
                YamlError::new(number, format!("{:?} contains {what}", code.trim()))
                    .hint(right.trim()),
            );
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            let message = format!("{:?} is indented with a tab", line.trim());
            return Err(YamlError::new(number, message).hint("spaces"));
        }
        if let Some(item) = code.trim_start().strip_prefix(['\u{2013}', '\u{2014}']) {
            let message = format!("{:?} begins with a typographic dash", code.trim());
            return Err(YamlError::new(number, message).hint(format!("- {}", item.trim())));
        }
    }
    Ok(())
}

/// A syntax error; if a line at or just before it lacks the space after its colon, that is it.
pub(super) fn syntax(source: &str, line: usize, info: &str) -> YamlError {
    let candidates = (1..)
        .zip(source.lines())
        .skip(line.saturating_sub(3))
        .take(3);
    for (number, text) in candidates.filter(|(n, _)| *n <= line) {
        if let Some(right) = spaced(text.trim_start_matches([' ', '-'])) {
            let message = format!("{:?} has no space after the colon", text.trim());
            return YamlError::new(number, message).hint(right);
        }
    }
    YamlError::new(line, format!("not YAML: {info}"))
}

/// `key:value` as `key: value`; `None` if the text does not look like that.
pub(super) fn spaced(text: &str) -> Option<String> {
    let (key, value) = text.trim().split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let plain = !key.is_empty() && key.chars().all(word);
    (plain && !value.is_empty() && !value.starts_with([' ', '/', ':']))
        .then(|| format!("{key}: {value}"))
}

/// What a scalar that stands where a map must be was meant to be.
pub(super) fn map_of(text: &str) -> Option<String> {
    let pairs: Vec<_> = text.split_whitespace().map(spaced).collect::<Option<_>>()?;
    match pairs.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("{{{}}}", several.join(", "))),
    }
}

/// The one of `known` that `word` was meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let simple = |w: &str| w.replace(['_', '-', ' '], "").to_lowercase();
    let word = simple(word);
    known
        .iter()
        .map(|k| (edits(&word, &simple(k)), *k))
        .filter(|(edits, k)| *edits <= MAX_EDITS && *edits < k.len() / 2 + 1)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, k)| k)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
