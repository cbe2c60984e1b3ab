//! TLS to etcd, and its own users.

use std::{path::Path, sync::Arc};

use nsm_registry::{
    SystemClock,
    store::{
        Expect, Store as _, StoreError,
        etcd::{Account, EtcdSettings, EtcdStore, Tls},
    },
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::cluster::{Cluster, MEMBERS};

/// An authority, and a certificate of it for this machine's loopback, as files.
fn certificates(folder: &Path) -> [String; 3] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // etcd takes a common name for a user.
    params.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let files = [
        ("ca.pem", ca.pem()),
        ("own.pem", certificate.pem()),
        ("own.key", own.serialize_pem()),
    ];
    files.map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

fn open(settings: &EtcdSettings) -> Result<EtcdStore, StoreError> {
    EtcdStore::open(settings, Arc::new(SystemClock))
}

fn user(name: &str, password: &str) -> Option<Account> {
    Some(Account {
        user: name.to_owned(),
        password: password.to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_spoken_to_by_tls_and_as_a_user() {
    crate::begin!(cluster, Cluster::prepare());
    let [ca, certificate, key] = certificates(cluster.folder());
    cluster.behind_tls(&ca, &certificate, &key);
    for member in 0..MEMBERS {
        cluster.up(member);
    }
    let mut settings = cluster.settings("secured");
    let tls = Tls {
        ca: ca.clone().into(),
        own: Some((certificate.into(), key.clone().into())),
    };
    settings.tls = Some(tls.clone());
    open(&settings).unwrap().reach().await.unwrap();

    // Files that are none say so at once; a member that refuses us is not waited for in silence.
    settings.tls = Some(Tls {
        ca: key.into(),
        own: None,
    });
    let error = open(&settings).unwrap_err().to_string();
    assert!(error.contains("no certificate in it"), "{error}");
    settings.tls = Some(Tls {
        own: None,
        ..tls.clone()
    });
    let error = open(&settings).unwrap().reach().await.unwrap_err();
    // With TLS 1.3 its reason may come too late to be read.
    assert!(matches!(error, StoreError::Away { .. }), "{error}");
    settings.tls = Some(tls);

    for words in [
        "user add root:root",
        "user grant-role root root",
        "user add nsm:secret",
        "role add registry",
        "role grant-permission registry --prefix=true readwrite /secured/",
        "user grant-role nsm registry",
        "auth enable",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert!(cluster.tool(0, &words).is_some(), "{words:?}");
    }
    let put = async |settings: &EtcdSettings| {
        let store = open(settings).unwrap();
        store.put("k", Arc::from(*b"v"), Expect::Any, None).await
    };
    settings.account = user("nsm", "secret");
    put(&settings).await.unwrap();
    let mut elsewhere = settings.clone();
    elsewhere.url.prefix = "/other/".to_owned();
    let mut wrong = settings.clone();
    wrong.account = user("nsm", "guess");
    let mut nobody = settings.clone();
    nobody.account = None;
    for (settings, says) in [
        (elsewhere, "permission denied"),
        (wrong, "authentication failed"),
        (nobody, "permission denied"),
    ] {
        let error = put(&settings).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(says) && !error.contains("guess"), "{error}");
    }
}
