//! What elements remember of one connection: one value a type, gone when the connection is.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

type Values = BTreeMap<TypeId, Box<dyn Any + Send>>;

/// A table with one value of each type.
#[derive(Default)]
pub struct Store(Mutex<Values>);

impl Store {
    fn values(&self) -> std::sync::MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Takes the value of this type out.
    pub fn take<T: Send + 'static>(&self) -> Option<T> {
        self.values()
            .remove(&TypeId::of::<T>())
            .and_then(|value| value.downcast().ok().map(|value| *value))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} values)", self.values().len())
    }
}
