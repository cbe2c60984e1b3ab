//! Copies that come back: where they were, and what changed since.
//!
//! A revision means something in one life of one store: each has a name, its *age*. A file begins a
//! new age whenever it is opened, and remembers those before with the revision at which each ended,
//! so that a copy of a file that is brought back cannot be taken for what followed it.

use nsm_chain::{Code, Error};

use super::Registry;
use crate::{record::Record, store::Age, watch::Subscription};

/// Marks of one registry, of its store's present age.
#[derive(Debug, Clone, Copy)]
pub struct Marks(Option<u64>);

impl Marks {
    /// How far whoever has seen everything up to a revision is: opaque, short, ASCII; empty where
    /// the store has no ages.
    #[must_use]
    pub fn at(self, revision: u64) -> String {
        self.0
            .map_or_else(String::new, |age| format!("{age:x}.{revision}"))
    }
}

impl Registry {
    /// What says to watchers how far they are.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks(self.0.ages.last().map(|age| age.name))
    }

    /// Begins a watch of everything for somebody who has seen this much: what changed since, then
    /// every change.
    ///
    /// # Errors
    /// `FailedPrecondition` when that is not known any more; as [`Registry::watch`].
    pub fn resume<R: Record>(&self, seen: &str) -> Result<Subscription<R>, Error> {
        let known = read(seen).filter(|at| known(&self.0.ages, *at));
        let resumed = match known {
            Some((_, revision)) => self.view::<R>().resume(revision)?,
            None => None,
        };
        resumed.ok_or_else(|| {
            let message = format!(
                "what changed of {}s since {seen:?} is not known here any more: watch anew",
                R::NAME
            );
            Error::new(Code::FailedPrecondition, message)
        })
    }
}

fn read(seen: &str) -> Option<(u64, u64)> {
    let (age, revision) = seen.split_once('.')?;
    Some((u64::from_str_radix(age, 16).ok()?, revision.parse().ok()?))
}

/// Whether a revision was of this age: it began before it, and the next one did not.
fn known(ages: &[Age], (name, revision): (u64, u64)) -> bool {
    let Some(at) = ages.iter().position(|age| age.name == name) else {
        return false;
    };
    let ended = ages.get(at + 1);
    ended.is_none_or(|next| revision <= next.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_another_life_is_not_known() {
        let ages = [(7, 0), (8, 100), (9, 150)].map(|(name, from)| Age { name, from });
        for (seen, expected) in [
            ("7.100", true),
            ("7.101", false),
            ("8.150", true),
            ("8.151", false),
            ("9.99999", true),
            ("a.1", false),
        ] {
            let seen_at = read(seen).expect("a mark");
            assert_eq!(known(&ages, seen_at), expected, "{seen}");
        }
        for text in ["", "0", "7", "7.", "x.1", "7.-1", "7.1.2"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
