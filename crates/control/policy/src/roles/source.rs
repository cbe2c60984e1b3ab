//! Where roles come from, and when they have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use nsm_model::{
    roles::Roles,
    spiffe::TrustDomain,
    yaml::{MAX_FILE_BYTES, YamlError},
};

/// The bit of a file's mode that lets everybody write it.
const OTHERS_WRITE: u32 = 0o002;

/// Why a roles file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// The file.
    #[error("the roles file {path} cannot be read: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// Whoever writes it gives roles away.
    #[error("the roles file {0} can be written by everybody: chmod o-w it")]
    Writable(PathBuf),
    /// What it says.
    #[error("the roles file {path}: {error}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Line, field, value.
        error: YamlError,
    },
}

/// What tells one version of a file from another.
type Stamp = (i64, i64, u64, u64);

/// The roles in force; cheap to clone, clones share it.
#[derive(Clone, Debug)]
pub struct RoleSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: TrustDomain,
    path: Option<PathBuf>,
    /// Of the file as it was looked at last, read or refused.
    stamp: Mutex<Option<Stamp>>,
    now: RwLock<Arc<Roles>>,
}

impl RoleSource {
    /// The standard roles of a trust domain.
    #[must_use]
    pub fn standard(own: &TrustDomain) -> Self {
        Self::fixed(Roles::standard(own), own)
    }

    /// Roles that do not change.
    #[must_use]
    pub fn fixed(roles: Roles, own: &TrustDomain) -> Self {
        Self::new(own, None, None, roles)
    }

    /// A file's roles.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub fn file(path: &Path, own: &TrustDomain) -> Result<Self, RolesError> {
        let stamp = stamp(path)?;
        let roles = load(path, own)?;
        Ok(Self::new(own, Some(path.to_owned()), Some(stamp), roles))
    }

    fn new(own: &TrustDomain, path: Option<PathBuf>, stamp: Option<Stamp>, roles: Roles) -> Self {
        Self(Arc::new(Inner {
            own: own.clone(),
            path,
            stamp: Mutex::new(stamp),
            now: RwLock::new(Arc::new(roles)),
        }))
    }

    /// The roles in force.
    #[must_use]
    pub fn current(&self) -> Arc<Roles> {
        let now = self.0.now.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&now)
    }

    /// Whether they come from a file, which may change.
    #[must_use]
    pub fn follows_a_file(&self) -> bool {
        self.0.path.is_some()
    }

    /// Looks at the file again; whether there are new roles.
    ///
    /// # Errors
    /// Once for each change that is refused: the roles before stay in force.
    pub fn refresh(&self) -> Result<bool, RolesError> {
        let Some(path) = &self.0.path else {
            return Ok(false);
        };
        let seen = stamp(path);
        let mut last = self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        match (&seen, last.as_ref()) {
            (Ok(seen), Some(last)) if seen == last => return Ok(false),
            // Refused already, and still the same.
            (Err(_), None) => return Ok(false),
            _ => {}
        }
        *last = seen.as_ref().ok().copied();
        let roles = seen.and_then(|_| load(path, &self.0.own))?;
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roles);
        Ok(true)
    }
}

fn stamp(path: &Path) -> Result<Stamp, RolesError> {
    let failed = |reason: String| RolesError::File {
        path: path.to_owned(),
        reason,
    };
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if metadata.len() > MAX_FILE_BYTES as u64 {
        return Err(failed(format!(
            "{} bytes, at most {MAX_FILE_BYTES} are read",
            metadata.len()
        )));
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(RolesError::Writable(path.to_owned()));
    }
    Ok((
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino(),
        metadata.len(),
    ))
}

fn load(path: &Path, own: &TrustDomain) -> Result<Roles, RolesError> {
    let text = fs::read_to_string(path).map_err(|error| RolesError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Roles::load_yaml(&text, own).map_err(|error| RolesError::Malformed {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nsm_model::roles::Role;

    use super::*;

    fn write(path: &Path, text: &str) {
        // A name of its own for each version, as editors and Kubernetes do.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[test]
    fn a_file_is_read_again_and_a_broken_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roles.yaml");
        let own: TrustDomain = "nsm.test".parse().unwrap();
        let id = |name: &str| format!("spiffe://nsm.test/{name}").parse().unwrap();
        assert!(matches!(
            RoleSource::file(&path, &own),
            Err(RolesError::File { .. })
        ));
        write(&path, "operators: ada");
        let error = RoleSource::file(&path, &own).unwrap_err().to_string();
        assert!(
            error.contains("roles.yaml: line 1: operators: pattern \"ada\""),
            "{error}"
        );
        write(&path, "operators: /ada");
        let source = RoleSource::file(&path, &own).unwrap();
        let operator = |name| source.current().holds(Role::Operator, &id(name));
        assert!(operator("ada") && !operator("bob"));
        assert_eq!(source.refresh(), Ok(false));
        write(&path, "operators: [/ada, /bob]");
        assert_eq!(source.refresh(), Ok(true));
        assert!(operator("ada") && operator("bob"));
        write(&path, "operators: [/ada, carol]");
        let error = source.refresh().unwrap_err().to_string();
        assert!(
            error.contains("line 1: operators: pattern \"carol\""),
            "{error}"
        );
        assert!(operator("bob"), "the roles before stay");
        assert_eq!(source.refresh(), Ok(false), "said once");
        fs::remove_file(&path).unwrap();
        assert!(source.refresh().is_err());
        assert_eq!(source.refresh(), Ok(false), "said once");
        assert!(operator("bob"), "the roles before stay");
        write(&path, "operators: /carol");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!operator("carol"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(source.refresh(), Ok(true));
        assert!(operator("carol") && !operator("bob"));
    }
}
