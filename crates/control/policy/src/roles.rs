//! Roles in force, and what they allow: the standard ones, or a file's, read again when it changes.

mod rules;
mod source;

pub use nsm_model::roles::{Pattern, Role, Roles};
pub use rules::{Asked, Place, answers, calls, registers, registers_service, serves};
pub use source::{RoleSource, RolesError};
