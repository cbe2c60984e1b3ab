//! What elements remember of one connection: one value a type, gone when the connection is.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

type Values = BTreeMap<TypeId, Box<dyn Any + Send>>;

/// A value that a role's journal keeps, so that it is known again after a restart.
///
/// Its JSON form is read by later versions: fields are added, never given another meaning. No
/// secret is in it.
pub trait Kept: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Its name in the journal.
    const NAME: &'static str;
}

/// What a journal keeps of one store: values by [`Kept::NAME`].
pub type Notes = BTreeMap<String, Value>;

/// A table with one value of each type.
#[derive(Default)]
pub struct Store {
    values: Mutex<Values>,
    notes: Mutex<Notes>,
}

impl Store {
    /// A store with what a journal kept of another one.
    #[must_use]
    pub fn with_notes(notes: Notes) -> Self {
        Self {
            notes: Mutex::new(notes),
            ..Self::default()
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a value, in place of the one of its type that was there.
    pub fn put<T: Send + 'static>(&self, value: T) -> Option<T> {
        self.values()
            .insert(TypeId::of::<T>(), Box::new(value))
            .and_then(|old| old.downcast().ok().map(|old| *old))
    }

    /// A copy of the value of this type.
    pub fn get<T: Clone + Send + 'static>(&self) -> Option<T> {
        self.values()
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref::<T>().cloned())
    }

    /// Changes the value of this type, where there is one.
    pub(crate) fn change<T: Send + 'static>(&self, change: impl FnOnce(&mut T)) {
        let mut values = self.values();
        let value = values.get_mut(&TypeId::of::<T>());
        if let Some(value) = value.and_then(|value| value.downcast_mut::<T>()) {
            change(value);
        }
    }

    /// Takes the value of this type out.
    pub fn take<T: Send + 'static>(&self) -> Option<T> {
        self.values()
            .remove(&TypeId::of::<T>())
            .and_then(|value| value.downcast().ok().map(|value| *value))
    }

    /// As [`Store::put`], for the journal as well.
    pub fn keep<T: Kept>(&self, value: T) -> Option<T> {
        let noted = match serde_json::to_value(&value) {
            Ok(note) => self.noted().insert(T::NAME.to_owned(), note),
            Err(error) => {
                tracing::error!(what = T::NAME, %error, "a value cannot be journalled; it is lost at a restart");
                None
            }
        };
        let known = self.put(value);
        // One from before a restart that nobody has asked for since.
        known.or_else(|| serde_json::from_value(noted?).ok())
    }

    /// As [`Store::get`], also of what was kept before a restart.
    pub fn kept<T: Kept>(&self) -> Option<T> {
        if let Some(known) = self.get::<T>() {
            return Some(known);
        }
        let note = self.noted().get(T::NAME).cloned()?;
        match serde_json::from_value::<T>(note) {
            Ok(value) => {
                self.put(value.clone());
                Some(value)
            }
            Err(error) => {
                tracing::warn!(what = T::NAME, %error, "a journalled value cannot be read and is left out");
                self.noted().remove(T::NAME);
                None
            }
        }
    }

    /// As [`Store::take`], out of the journal as well.
    pub fn take_kept<T: Kept>(&self) -> Option<T> {
        let value = self.kept::<T>();
        self.take::<T>();
        self.noted().remove(T::NAME);
        value
    }

    /// What the journal keeps of it.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.noted().clone()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} values)", self.values().len())
    }
}
