//! Which files a setting names, what of them is in force, and what happens when they change.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{fs, path::Path};

use nsm_policy::custom::Policies;

/// Files by path below a folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(folder.path(), path, text);
    }
    folder
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What a setting says with these masks: the files in force, or why there are none.
fn load(folder: &Path, masks: &[&str]) -> Result<Policies, String> {
    let masks: Vec<String> = masks.iter().map(|mask| (*mask).to_owned()).collect();
    let loaded = Policies::load("NSM_X_POLICIES", &masks, folder);
    loaded.map_err(|error| {
        error
            .to_string()
            .replace(&folder.display().to_string(), "FOLDER")
    })
}

#[test]
fn a_mask_that_means_nothing_is_an_error() {
    let empty = folder(&[("folder/readme", "")]);
    for (mask, says) in [
        (
            "custom/.*.rego",
            "names no file and no standard policy (looked from FOLDER)",
        ),
        ("etc/nsm/opa/clients/.*.rego", "names no file"),
        (
            "folder",
            "is a folder: name its files, as in folder/.*.rego",
        ),
    ] {
        let error = load(empty.path(), &[mask]).unwrap_err();
        assert!(
            error.starts_with("NSM_X_POLICIES: ") && error.contains(says),
            "{mask}: {error}"
        );
    }
    for masks in [
        &[][..],
        &["etc/nsm/opa/common/.*.rego", "etc/nsm/opa/server/.*.rego"],
        &["etc/nsm/opa/.*.rego"],
        &["policies/registry/.*.rego"],
    ] {
        assert!(load(empty.path(), masks).unwrap().is_empty(), "{masks:?}");
    }
}

#[cfg(feature = "opa")]
mod run {
    use nsm_api::connection::Path as Segments;
    use nsm_policy::{custom::Verdict, input::Input};

    use super::*;

    const YES: &str = "package nsm\n\ndefault valid = true\n";
    const NO: &str = "package nsm\n\ndefault valid = false\n";
    const BROKEN: &str = "package nsm\n\ndefault valid = false\n\nvalid {\n\tinput.index ==\n}\n";

    fn says(policies: &Policies) -> Result<(), Verdict> {
        policies.check(&Input {
            path: &Segments::default(),
            certificate: &[],
            registration: None,
        })
    }

    #[test]
    fn masks_are_read_as_upstream_reads_them() {
        let files = [
            "custom/a.rego",
            "custom/b.rego.txt",
            "custom/deep/c.rego",
            "custom/..data/d.rego",
            "policies/common/e.rego",
            "etc/nsm/opa/common/f.rego",
            "etc/nsm/opa/server/tokens_valid.rego",
        ];
        let folder = folder(&files.map(|file| (file, YES)));
        for (mask, expected) in [
            (
                "custom/.*.rego",
                &["custom/a.rego", "custom/deep/c.rego"][..],
            ),
            ("custom/a.rego", &["custom/a.rego"]),
            ("custom/(a|z).rego", &["custom/a.rego"]),
            (
                "etc/nsm/opa/common/.*.rego",
                &["etc/nsm/opa/common/f.rego", "policies/common/e.rego"],
            ),
            (
                "etc/nsm/opa/.*.rego",
                &[
                    "etc/nsm/opa/common/f.rego",
                    "etc/nsm/opa/server/tokens_valid.rego",
                    "policies/common/e.rego",
                ],
            ),
        ] {
            let found = load(folder.path(), &[mask]).unwrap().files();
            assert_eq!(found, expected, "{mask}");
        }
        let error = load(folder.path(), &["custom/(.rego"]).unwrap_err();
        assert!(error.contains("is not a regular expression"), "{error}");
        let all = format!("{}/custom/.*.rego", folder.path().display());
        assert_eq!(load(Path::new("/"), &[&all]).unwrap().files().len(), 2);
    }

    #[test]
    fn a_broken_file_is_refused_by_its_line() {
        let syntax = "NSM_X_POLICIES: policy a.rego:5:7: expecting }";
        for (text, expected) in [
            (BROKEN, syntax),
            (
                "default valid = true",
                "NSM_X_POLICIES: policy a.rego:1:1: ",
            ),
            ("package nsm\n", "NSM_X_POLICIES: policy a.rego: "),
            (
                "package nsm\n\nvalid {\n\tnosuch.function(1)\n}\n",
                "NSM_X_POLICIES: policy a.rego:4:20: could not find function nosuch.function",
            ),
        ] {
            let folder = folder(&[("a.rego", text)]);
            let error = load(folder.path(), &["a.rego"]).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn all_say_yes_or_it_is_no() {
        for (texts, expected) in [
            (&[YES][..], "yes"),
            (&[YES, YES], "yes"),
            (&[YES, NO], "policy 1.rego does not allow it"),
            (&["package my.own\n\ndefault valid = true"], "yes"),
            (
                &["package nsm\n\nvalid { input.index == 7 }"],
                "policy 0.rego cannot decide: its rule `valid` says nothing: give it a default",
            ),
            (
                &["package nsm\n\nvalid = 1"],
                "policy 0.rego cannot decide: its rule `valid` is not a boolean",
            ),
            (
                &[
                    "package nsm\n\nimport rego.v1\n\ndefault valid := false\n\nvalid if count(input.auth_info) == 1",
                ],
                "yes",
            ),
        ] {
            let named: Vec<(String, &str)> = texts
                .iter()
                .enumerate()
                .map(|(at, text)| (format!("{at}.rego"), *text))
                .collect();
            let named: Vec<(&str, &str)> = named
                .iter()
                .map(|(name, text)| (name.as_str(), *text))
                .collect();
            let folder = folder(&named);
            let said = says(&load(folder.path(), &[".*.rego"]).unwrap());
            let said = said.map_or_else(|verdict| verdict.to_string(), |()| "yes".to_owned());
            assert_eq!(said, expected, "{texts:?}");
        }
    }

    #[test]
    fn a_policy_without_end_is_stopped() {
        let endless = "package nsm\n\ndefault valid = false\n\nvalid {\n\tn := numbers.range(1, 100000)\n\tsum([x * y | x := n[_]; y := n[_]]) > 0\n\tinput.path_segments\n}\n";
        let folder = folder(&[("a.rego", endless)]);
        let began = std::time::Instant::now();
        let error = load(folder.path(), &["a.rego"]).unwrap_err();
        assert!(began.elapsed().as_secs() < 20, "{error}");
    }

    #[test]
    fn files_are_looked_at_again() {
        let folder = folder(&[("a.rego", YES)]);
        let policies = load(folder.path(), &["[ab].rego"]).unwrap();
        // What is written, and what is said then.
        for (text, yes) in [
            (NO, false),
            (BROKEN, false),
            (YES, true),
            (BROKEN, true),
            ("", true),
            (NO, false),
        ] {
            write(folder.path(), "a.rego", text);
            for _ in 0..2 {
                policies.reload();
                assert_eq!(says(&policies).is_ok(), yes, "{text}");
            }
        }
        write(folder.path(), "b.rego", BROKEN);
        policies.reload();
        assert_eq!(policies.files(), ["a.rego"]);
        write(folder.path(), "b.rego", YES);
        fs::remove_file(folder.path().join("a.rego")).unwrap();
        policies.reload();
        assert_eq!(policies.files(), ["b.rego"]);
        // Nothing left: a folder that was unmounted, and not a wish.
        write(folder.path(), "b.rego", NO);
        policies.reload();
        fs::remove_file(folder.path().join("b.rego")).unwrap();
        policies.reload();
        assert_eq!(policies.files(), ["b.rego"]);
        says(&policies).unwrap_err();
    }
}
