//! An authority, a workload of it and what that workload signed, made once by `examples/seeds.rs`:
//! only with a key that stays the same can an input of a corpus be a good one.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nsm_identity::{Bundles, token::Signer};
use nsm_model::spiffe::TrustDomain;

/// Values by name, a line each; bytes are in base64. The key signs nothing but test inputs.
const TEXT: &str = include_str!("../fixtures.txt");

static VALUES: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    TEXT.lines()
        .filter_map(|line| line.split_once(" = "))
        .collect()
});

/// A value as text; panics where there is none.
#[must_use]
pub fn value(name: &str) -> &'static str {
    VALUES.get(name).unwrap()
}

/// A value that is bytes.
#[must_use]
pub fn bytes(name: &str) -> Vec<u8> {
    STANDARD.decode(value(name)).unwrap()
}

/// A time at which all certificates and tokens here are good.
#[must_use]
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(value("now").parse().unwrap())
}

/// The trust domain.
#[must_use]
pub fn domain() -> TrustDomain {
    value("domain").parse().unwrap()
}

/// What the trust domain's members trust.
#[must_use]
pub fn bundles() -> Bundles {
    BTreeMap::from([(domain(), vec![bytes("root").into()])])
}

/// The workload's certificate, DER.
pub static LEAF: LazyLock<Vec<u8>> = LazyLock::new(|| bytes("leaf"));

/// Signs as the workload.
pub static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new(&bytes("key")).unwrap());
