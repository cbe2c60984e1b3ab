//! `authorize`: who may, who may not, and what each is told.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use nsm_api::connection::{Connection, PathSegment};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Token, Tokens as _, elements::Authorize,
};
use nsm_test_support::{Clock, Keys, LIFE, Pipe, caller, full_request, jwt, spiffe};
use tokio::time::Instant;

/// A path to "own" over "client" and "manager", every token as it should be.
struct Row {
    clock: Clock,
    names: Vec<&'static str>,
    tokens: Vec<String>,
    index: u32,
    caller: &'static str,
}

impl Row {
    fn good() -> Self {
        let clock = Clock::default();
        let mut row = Self {
            clock,
            names: vec!["client", "manager", "own"],
            tokens: Vec::new(),
            index: 2,
            caller: "manager",
        };
        row.tokens = vec![
            row.token("client", "client", "manager").jwt,
            row.token("manager", "manager", "own").jwt,
            row.token("own", "own", "manager").jwt,
        ];
        row
    }

    fn token(&self, signer: &str, sub: &str, aud: &str) -> Token {
        jwt(
            &spiffe(signer),
            &spiffe(sub),
            &spiffe(aud),
            self.clock.now() + LIFE,
        )
    }

    fn expired(&self, who: &str, aud: &str) -> String {
        let ago = self.clock.now() - Duration::from_secs(5);
        jwt(&spiffe(who), &spiffe(who), &spiffe(aud), ago).jwt
    }

    fn connection(&self) -> Connection {
        let mut connection = full_request("own-id", "svc")
            .connection
            .into_option()
            .unwrap();
        let path = connection.path.get_or_insert_default();
        path.index = self.index;
        let segments = self.names.iter().zip(&self.tokens);
        path.path_segments = segments
            .map(|(name, token)| PathSegment {
                name: (*name).to_owned(),
                id: format!("{name}-id"),
                token: token.clone(),
                ..Default::default()
            })
            .collect();
        connection
    }

    async fn verdicts(&self) -> [Result<(), Error>; 2] {
        let keys = Keys::new("own", self.clock);
        let chain = Chain::new(vec![
            Box::new(Authorize::new(keys)) as Box<dyn Element<Connections>>
        ]);
        let call = || {
            let caller = caller(&spiffe(self.caller), Arc::new(Pipe::default()));
            Call::from(caller, None, Instant::now() + LIFE)
        };
        let mut request = full_request("own-id", "svc");
        request.connection = buffa::MessageField::some(self.connection());
        let asked = chain.request(&mut call(), request).await.map(drop);
        let closed = chain.close(&mut call(), self.connection()).await;
        for error in [&asked, &closed]
            .into_iter()
            .filter_map(|verdict| verdict.as_ref().err())
        {
            let secrets = self.tokens.iter().flat_map(|token| token.split('.'));
            for secret in secrets.filter(|part| part.len() > 8) {
                assert!(
                    !error.message.contains(secret),
                    "a token in a message: {error}"
                );
            }
        }
        [asked, closed]
    }
}

/// A row's change, what a request is answered, and what a close.
async fn check(change: impl FnOnce(&mut Row), request: &Expect, close: &Expect) {
    let mut row = Row::good();
    change(&mut row);
    let said = row.verdicts().await.map(|verdict| match verdict {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            assert!(
                matches!(error.code, Code::PermissionDenied | Code::Unauthenticated),
                "{error:?}"
            );
            format!("{:?}: {error}", error.code)
        }
    });
    let [asked, closed] = said;
    request.assert_eq(&asked);
    close.assert_eq(&closed);
}

#[tokio::test(start_paused = true)]
async fn whoever_proves_the_path_may() {
    check(|_| {}, &expect!["ok"], &expect!["ok"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_prove_itself_may_not() {
    let missing = expect![
        "Unauthenticated: spiffe://nsm.test/manager: the token is malformed: it has not three parts"
    ];
    check(|row| row.tokens[1].clear(), &missing, &missing).await;
    let forged = expect![
        "Unauthenticated: spiffe://nsm.test/manager: the token of \"spiffe://nsm.test/manager\" is not signed by spiffe://nsm.test/manager"
    ];
    check(
        |row| row.tokens[1] = row.token("thief", "manager", "own").jwt,
        &forged,
        &forged,
    )
    .await;
    let audience = expect![[
        r#"PermissionDenied: the token of spiffe://nsm.test/manager is meant for ["spiffe://nsm.test/other"], not for spiffe://nsm.test/own"#
    ]];
    check(
        |row| row.tokens[1] = row.token("manager", "manager", "other").jwt,
        &audience,
        &audience,
    )
    .await;
    let subject = expect![
        "PermissionDenied: spiffe://nsm.test/manager sent a token of spiffe://nsm.test/client"
    ];
    check(
        |row| row.tokens[1] = row.token("manager", "client", "own").jwt,
        &subject,
        &subject,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_may_be_closed_only() {
    check(
        |row| row.tokens[0] = row.expired("client", "manager"),
        &expect!["PermissionDenied: token of path segment client: the token of \"spiffe://nsm.test/client\" expired at 2023-11-14T22:13:15Z, 5s ago; refresh it, or set the clocks of both sides"],
        &expect!["ok"],
    )
    .await;
    check(
        |row| row.tokens[1] = row.expired("manager", "own"),
        &expect!["PermissionDenied: token of path segment manager: the token of \"spiffe://nsm.test/manager\" expired at 2023-11-14T22:13:15Z, 5s ago; refresh it, or set the clocks of both sides"],
        &expect!["ok"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_was_tampered_with_may_not() {
    let unread = expect![
        "PermissionDenied: token of path segment client: the token is malformed: it has not three parts"
    ];
    check(|row| row.tokens[0] = "a.b".to_owned(), &unread, &unread).await;
    // The manager's segment was cut out, by a forwarder behind it.
    let cut = expect![[
        r#"PermissionDenied: path segment forwarder: the token before it, of spiffe://nsm.test/client, is meant for ["spiffe://nsm.test/manager"], not for spiffe://nsm.test/forwarder"#
    ]];
    check(
        |row| {
            row.names[1] = "forwarder";
            row.caller = "forwarder";
            row.tokens[1] = row.token("forwarder", "forwarder", "own").jwt;
        },
        &cut,
        &cut,
    )
    .await;
    // An endpoint that has seen the path speaks in the manager's place.
    let beyond = expect![[
        r#"PermissionDenied: path segment manager: the token before it, of spiffe://nsm.test/client, is meant for ["spiffe://nsm.test/manager"], not for spiffe://nsm.test/endpoint"#
    ]];
    check(
        |row| {
            row.caller = "endpoint";
            row.tokens[1] = row.token("endpoint", "endpoint", "own").jwt;
        },
        &beyond,
        &beyond,
    )
    .await;
    let nobody = expect![
        "PermissionDenied: spiffe://nsm.test/manager: no path segment of the caller before ours"
    ];
    check(|row| row.index = 0, &nobody, &nobody).await;
    check(|row| row.index = 9, &nobody, &nobody).await;
}

#[tokio::test(start_paused = true)]
async fn what_begins_in_this_process_needs_no_proof() {
    let keys = Keys::new("own", Clock::default());
    assert_eq!(keys.own_id(), spiffe("own"));
    let chain = Chain::new(vec![
        Box::new(Authorize::new(keys)) as Box<dyn Element<Connections>>
    ]);
    let mut call = Call::local(Instant::now() + LIFE);
    chain
        .request(&mut call, full_request("own-id", "svc"))
        .await
        .unwrap();
}
