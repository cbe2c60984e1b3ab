//! A program without Rego: a setting that names a file is an error, never a policy that is skipped.

#![cfg_attr(feature = "opa", allow(dead_code, reason = "there for its test alone"))]

use super::{LoadError, Policies, Verdict};
use crate::{
    input::Input,
    mask::{self, Matcher},
};

#[derive(Debug, Default)]
pub(super) struct Loaded(());

impl Loaded {
    #[expect(clippy::unused_self, reason = "as its twin with the feature")]
    pub(super) fn start(&self, of: &Policies) -> Result<(), LoadError> {
        for mask in &of.masks {
            let files = mask::files::<Start>(mask, &of.folder);
            if let Some(file) = files.map_err(|error| of.mask_error(error))?.first() {
                return Err(LoadError::NotBuiltIn {
                    setting: of.setting.clone(),
                    file: file.display().to_string(),
                });
            }
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "as its twin with the feature")]
    pub(super) fn reload(&self, _: &Policies) {}

    #[expect(clippy::unused_self, reason = "as its twin with the feature")]
    pub(super) fn is_empty(&self) -> bool {
        true
    }

    #[expect(clippy::unused_self, reason = "as its twin with the feature")]
    pub(super) fn files(&self) -> Vec<String> {
        Vec::new()
    }

    #[expect(clippy::unused_self, reason = "as its twin with the feature")]
    pub(super) fn check(&self, _: &Input<'_>) -> Result<(), Verdict> {
        Ok(())
    }
}

/// Without regular expressions: whatever begins as the mask does, a file too many rather than one
/// too few.
struct Start(String);

impl Matcher for Start {
    fn new(expression: &str) -> Result<Self, String> {
        let plain = expression
            .find(|c: char| !(c.is_ascii_alphanumeric() || "/-_".contains(c)))
            .unwrap_or(expression.len());
        Ok(Self(expression[..plain].to_owned()))
    }

    fn matches(&self, path: &str) -> bool {
        path.starts_with(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_run_is_an_error() {
        for (file, mask) in [
            ("custom/a.rego", "custom/.*.rego"),
            ("custom/a.rego", "custom/a.rego"),
            ("policies/common/a.rego", "etc/nsm/opa/common/.*.rego"),
            (
                "etc/nsm/opa/common/tokens_valid.rego",
                "etc/nsm/opa/common/.*.rego",
            ),
            ("", "etc/nsm/opa/.*.rego"),
            ("", "etc/nsm/opa/(client|common)/.*.rego"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            if !file.is_empty() {
                let path = folder.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "package nsm").unwrap();
            }
            let policies = Policies {
                setting: "NSM_X_POLICIES".to_owned(),
                masks: vec![mask.to_owned()],
                folder: folder.path().to_owned(),
                ..Policies::default()
            };
            let started = Loaded::default().start(&policies);
            let expected = if file.is_empty() {
                Ok(())
            } else {
                Err(LoadError::NotBuiltIn {
                    setting: "NSM_X_POLICIES".to_owned(),
                    file: file.to_owned(),
                })
            };
            assert_eq!(started, expected, "{mask}");
        }
    }
}
