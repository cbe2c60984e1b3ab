//! Files of the built-in authority: certificates in PEM, key sets, join tokens, entries.

use nsm_identity::{
    ca::{Entries, Facts},
    decoders,
};

use crate::{fixtures, text};

/// One file, read as each of them.
pub fn ca_files(data: &[u8]) {
    match decoders::from_pem(data) {
        Ok(certificates) => {
            assert!(!certificates.is_empty());
            let text = decoders::to_pem(&certificates);
            assert_eq!(decoders::from_pem(text.as_bytes()), Ok(certificates));
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
    if let Ok(text) = decoders::outstanding(data, fixtures::now()) {
        let again = decoders::outstanding(text.as_bytes(), fixtures::now());
        assert_eq!(again.unwrap(), text);
    }
    let svid = fixtures::value("jwt_svid");
    if let Ok((id, _)) = decoders::jwt_svid(svid, "audience", fixtures::now(), data) {
        assert_eq!(id.as_str(), fixtures::value("id"));
    }
    if let Some(source) = text(data) {
        entries(source);
    }
}

/// Who gets which identity.
fn entries(source: &str) {
    let domain = fixtures::domain();
    let entries = match Entries::parse(source, &domain) {
        Ok(entries) => entries,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for pid in [0, 1, 42, u32::MAX] {
        let facts = Facts {
            pid,
            uid: pid,
            exe: "/usr/bin/nsm".into(),
            netns: pid.into(),
            pidns: pid.into(),
        };
        match entries.find(&facts) {
            Ok(id) => assert!(id.member_of(&domain)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
