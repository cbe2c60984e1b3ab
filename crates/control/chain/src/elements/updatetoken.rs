//! `updatetoken`: the caller's token goes into its segment, one of ours into our own.
//!
//! *What it does*: sdk `pkg/networkservice/common/updatetoken`: on Request and Close the previous
//! segment becomes the caller's token and expiry, our own a fresh token for whoever called. In the
//! answer our own is the token that the next hop was sent, signed with the key that our connection
//! to it shows; the caller checks it with the certificate of another connection, so it is signed
//! once more, for the same audience.
//! *Where it stands*: after `updatepath`, before `authorize`, which reads both.
//! *On Close*: the same; a token of our own that cannot be had does not stop it.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::connection::PathSegment;
use nsm_identity::token;
use nsm_model::path;

use crate::{Call, Element, Error, Kind, Next, Token, Tokens};
use std::sync::Arc;

/// See the module.
pub struct UpdateToken(Arc<dyn Tokens>);

impl std::fmt::Debug for UpdateToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpdateToken")
    }
}

impl UpdateToken {
    /// The element.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self(tokens)
    }

    fn update<K: Kind>(&self, call: &mut Call, item: &mut K::Item) -> Result<(), Error> {
        let caller = call.caller.as_ref().map(|caller| caller.id.clone());
        let theirs = call.token.clone();
        if let (Some(token), Some(segment)) = (theirs, path::previous_mut(K::path_mut(call, item)))
        {
            write(segment, token);
        }
        let ours = caller
            .map(|caller| self.0.issue(call, &caller))
            .transpose()?;
        let path = K::path_mut(call, item);
        if let (Some(token), Some(segment)) = (ours, path::own_mut(path)) {
            write(segment, token);
        }
        Ok(())
    }

    /// Signs our own token of an answer with the key that the caller knows. One that cannot be had
    /// leaves what is there.
    fn sign<K: Kind>(&self, call: &mut Call, item: &mut K::Item) {
        if call.caller.is_none() {
            return;
        }
        let next = path::next(K::path(call, item)).map(|segment| &segment.token);
        let claims = next.and_then(|jwt| token::decode_unverified(jwt).ok());
        let Some(audience) = claims.and_then(|claims| claims.sub.parse().ok()) else {
            return;
        };
        let Ok(ours) = self.0.issue(call, &audience) else {
            return;
        };
        if let Some(segment) = path::own_mut(K::path_mut(call, item)) {
            // The next hop's lease ends when it was told.
            let expires = segment.expires.clone();
            let earlier = expires.as_option().is_some_and(|expires| {
                since_epoch(expires) < since_epoch(&timestamp(ours.expires))
            });
            write(segment, ours);
            if earlier {
                segment.expires = expires;
            }
        }
    }
}

fn since_epoch(time: &Timestamp) -> (i64, i32) {
    (time.seconds, time.nanos)
}

fn write(segment: &mut PathSegment, token: Token) {
    segment.token = token.jwt;
    segment.expires = MessageField::some(timestamp(token.expires));
}

/// A time as the wire has it, to the nanosecond.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

#[async_trait]
impl<K: Kind> Element<K> for UpdateToken {
    fn name(&self) -> &'static str {
        "updatetoken"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        self.update::<K>(call, K::item_mut(&mut request))?;
        let mut answer = next.request(call, request).await?;
        self.sign::<K>(call, &mut answer);
        Ok(answer)
    }

    async fn close(&self, call: &mut Call, mut item: K::Item, next: Next<K>) -> Result<(), Error> {
        if let Err(error) = self.update::<K>(call, &mut item) {
            tracing::warn!(%error, id = K::id(&item), "closing without a token of our own");
        }
        next.close(call, item).await
    }
}
