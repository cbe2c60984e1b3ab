//! The secret that connection ids are derived with: kept, so that a restarted role is the same hop.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use nsm_model::ids::{SECRET_BYTES, Secret};
use rustix::{
    fs::{CWD, OFlags, RenameFlags},
    io::Errno,
};

/// Permission bits that a secret must not have: anything for group and others.
const FORBIDDEN_BITS: u32 = 0o077;

/// The secret of the hop of this name in `folder`, made when there is none; without a folder a new
/// one each time.
pub(crate) fn secret(folder: Option<&Path>, name: &str) -> anyhow::Result<Secret> {
    let Some(folder) = folder else {
        return Ok(Secret::new(random()?));
    };
    let path = folder.join(format!("{name}.secret"));
    if let Some(kept) = read(&path)? {
        return Ok(Secret::new(kept));
    }
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("--state-dir {}", folder.display()))?;
    let fresh = random()?;
    let kept = match write(folder, &path, &fresh).with_context(|| path.display().to_string())? {
        true => fresh,
        // Another process of this name was quicker: its secret is the hop's.
        false => read(&path)?.with_context(|| format!("{}: is gone again", path.display()))?,
    };
    Ok(Secret::new(kept))
}

fn random() -> anyhow::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// What is kept; none where there is no file.
fn read(path: &Path) -> anyhow::Result<Option<[u8; SECRET_BYTES]>> {
    let shown = || path.display().to_string();
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = fs::OpenOptions::new();
    let file = match options.read(true).custom_flags(no_links).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(shown),
    };
    // Of the open file, so that it cannot be exchanged in between.
    let found = file.metadata().with_context(shown)?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        bail!(
            "{}: belongs to user {}, and this process runs as user {own}: give it to that user",
            path.display(),
            found.uid()
        );
    }
    if found.mode() & FORBIDDEN_BITS != 0 {
        bail!(
            "{}: has mode {:04o}, and it is a secret: chmod 0600 it",
            path.display(),
            found.mode() & 0o7777
        );
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(SECRET_BYTES).unwrap_or(u64::MAX) + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .with_context(shown)?;
    match bytes.try_into() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => bail!(
            "{}: has {} bytes, a secret has {SECRET_BYTES}: remove it",
            path.display(),
            found.len()
        ),
    }
}

/// Writes the file whole or not at all, whatever ends this process; false when there is one now.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<bool> {
    // Of this process alone; what one that was killed left is in nobody's way.
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match rustix::fs::renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            // A file system that cannot keep from replacing.
            Err(Errno::INVAL) => fs::rename(&new, path)?,
            Err(error) => return Err(error.into()),
        }
        fs::File::open(folder)?.sync_all()?;
        Ok(true)
    })();
    if !matches!(written, Ok(true)) {
        // The reason why it failed says more.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bytes(folder: &Path) -> Vec<u8> {
        fs::read(folder.join("hop.secret")).unwrap()
    }

    #[test]
    fn made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("deep");
        secret(Some(&deep), "hop").unwrap();
        let first = bytes(&deep);
        secret(Some(&deep), "hop").unwrap();
        assert_eq!(bytes(&deep), first);
        let mode = fs::metadata(deep.join("hop.secret")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1, "nothing beside it");
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!("hop.new-{}", std::process::id());
        for left in ["hop.new-1", own.as_str()] {
            fs::write(folder.path().join(left), [1, 2, 3]).unwrap();
        }
        secret(Some(folder.path()), "hop").unwrap();
        assert_eq!(bytes(folder.path()).len(), SECRET_BYTES);
    }

    #[test]
    fn the_quicker_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hop.secret");
        assert!(write(folder.path(), &path, &[1; SECRET_BYTES]).unwrap());
        assert!(!write(folder.path(), &path, &[2; SECRET_BYTES]).unwrap());
        assert_eq!(read(&path).unwrap(), Some([1; SECRET_BYTES]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hop.secret");
        let whole = vec![7; SECRET_BYTES];
        for (content, mode, said) in [
            (Vec::new(), 0o600, "has 0 bytes"),
            (vec![0; 4096], 0o600, "has 4096 bytes"),
            (whole.clone(), 0o644, "chmod 0600"),
            (whole.clone(), 0o660, "chmod 0600"),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = secret(Some(folder.path()), "hop").unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
            fs::remove_file(&path).unwrap();
        }
        fs::write(folder.path().join("else"), whole).unwrap();
        std::os::unix::fs::symlink("else", &path).unwrap();
        secret(Some(folder.path()), "hop").unwrap_err();
    }
}
