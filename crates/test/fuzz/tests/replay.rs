//! Every file of every corpus, as an ordinary test; and the targets, their programs and their
//! corpora stand together.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use buffa::Message as _;
use nsm_fuzz::{TARGETS, fixtures};
use nsm_identity::{decoders, token, workload::X509SVIDResponse};

/// Files of one corpus: people should still be able to look through them.
const MAX_FILES: usize = 200;
/// Bytes of all corpora together: they are in every clone.
const MAX_BYTES: usize = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn stems(folder: &Path) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files(folder).iter().map(stem).collect()
}

#[test]
fn every_file_of_every_corpus() {
    let mut broken = Vec::new();
    for target in TARGETS {
        for file in files(&fuzz().join("corpus").join(target.name)) {
            let data = fs::read(&file).unwrap();
            if catch_unwind(|| (target.run)(&data)).is_err() {
                broken.push(format!("{}: {}", target.name, file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Without these every input would be refused at the door, and nothing behind it be tried.
#[test]
fn the_good_inputs_are_good() {
    let seed = |name: &str| fs::read(fuzz().join("corpus").join(name)).unwrap();
    let message = X509SVIDResponse::decode_from_slice(&seed("workload_api/response")).unwrap();
    let identity = decoders::agent_answer(message).unwrap();
    assert_eq!(identity.id().as_str(), fixtures::value("id"));
    assert_eq!(identity.bundles().len(), 2);
    let chain = decoders::chain(&seed("certificate/chain")).unwrap();
    let (leaf, rest) = chain.split_first().unwrap();
    let (bundles, now) = (fixtures::bundles(), fixtures::now());
    decoders::peer(&bundles, leaf, rest, true, now).unwrap();
    let text = |name| String::from_utf8(seed(name)).unwrap();
    token::verify(&text("token/path-token"), leaf).unwrap();
    let (jwt, jwks) = (text("token/jwt-svid"), seed("ca_files/keys.json"));
    decoders::jwt_svid(&jwt, "audience", now, &jwks).unwrap();
    decoders::certificate_request(&seed("authority/certificate-request")).unwrap();
    let links = nsm_kernel::decoders::links(&seed("netlink/link-with-counters"));
    assert!(links[0].is_ours() && links[0].alias.starts_with("nsm1:"));
    let counters = nsm_kernel::decoders::counters(&seed("nftables/dump"), 1).unwrap();
    assert_eq!(counters.len(), 3);
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert_eq!(stems(&fuzz().join("corpus")), names);
    assert_eq!(stems(&fuzz().join("fuzz_targets")), names);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(fuzz().join("README.md")).unwrap();
    for name in names {
        let program = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        let program = fs::read_to_string(program).unwrap();
        assert!(
            program.contains(&format!("nsm_fuzz::{name}(data)")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn corpora_stay_small() {
    let mut bytes = 0;
    for target in TARGETS {
        let files = files(&fuzz().join("corpus").join(target.name));
        assert!((1..=MAX_FILES).contains(&files.len()), "{}", target.name);
        bytes += files
            .iter()
            .map(|f| fs::metadata(f).unwrap().len())
            .sum::<u64>();
    }
    assert!(bytes <= MAX_BYTES as u64, "{bytes} bytes");
}
