//! `updatepath`: the path beside the call gains our segment, the record the hops' SPIFFE IDs.
//!
//! *What it does*: sdk `pkg/registry/common/updatepath`: moves the path's index to our segment on
//! the way down and back on the way up; `path_ids[i]` becomes the SPIFFE ID of hop i: the caller's
//! from its certificate, those before it from their tokens, ours. What the message claimed is
//! replaced.
//! *Where it stands*: first: all after it speak of the hops.
//! *On Close*: the same, so that the owner is who calls and not who is named in the message.

use std::sync::Arc;

use async_trait::async_trait;
use nsm_api::connection::{Path, PathSegment};
use nsm_chain::{Call, Code, Element, Error, Next, Tokens};
use nsm_identity::token;
use nsm_model::path::MAX_PATH_SEGMENTS;

use crate::Record;

/// The SPIFFE IDs of a call's hops, its maker's first and ours last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hops(pub Vec<String>);

/// See the module.
pub struct UpdatePath(Arc<dyn Tokens>);

impl std::fmt::Debug for UpdatePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpdatePath")
    }
}

impl UpdatePath {
    /// The element.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self(tokens)
    }

    /// Answers with the index that the caller gets back.
    fn enter(&self, call: &mut Call) -> Result<u32, Error> {
        let own = self.0.own_id().to_string();
        let Some(caller) = &call.caller else {
            call.path.path_segments.truncate(0);
            call.path.path_segments.push(PathSegment::default());
            call.path.index = 0;
            call.scratch.put(Hops(vec![own]));
            return Ok(0);
        };
        let caller = caller.id.to_string();
        let before = advance(&mut call.path)?;
        let mut hops = Vec::with_capacity(before as usize + 2);
        for segment in call.path.path_segments.iter().take(before as usize) {
            let claims = token::decode_unverified(&segment.token).map_err(|error| {
                let message = format!(
                    "token of path segment {} of the registry path: {error}",
                    hops.len()
                );
                Error::new(Code::Unauthenticated, message)
            })?;
            hops.push(claims.sub);
        }
        hops.extend([caller, own]);
        call.scratch.put(Hops(hops));
        Ok(before)
    }
}

/// Moves the path to our segment, behind the caller's; answers with the caller's index.
fn advance(path: &mut Path) -> Result<u32, Error> {
    let refuse = |message: String| Err(Error::new(Code::InvalidArgument, message));
    if path.path_segments.is_empty() {
        path.path_segments.push(PathSegment::default());
        path.index = 0;
    }
    let (before, segments) = (path.index, path.path_segments.len());
    let own = before as usize + 1;
    if own > segments {
        return refuse(format!(
            "registry path: index is {before} but there are {segments} segments"
        ));
    }
    if own >= MAX_PATH_SEGMENTS {
        return refuse(format!(
            "registry path: more than {MAX_PATH_SEGMENTS} segments: do registries ask in a circle?"
        ));
    }
    if own == segments {
        path.path_segments.push(PathSegment::default());
    }
    path.index = before + 1;
    Ok(before)
}

#[async_trait]
impl<R: Record<Request = <R as nsm_chain::Kind>::Item>> Element<R> for UpdatePath {
    fn name(&self) -> &'static str {
        "updatepath"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut record: R::Item,
        next: Next<R>,
    ) -> Result<R::Item, Error> {
        let before = self.enter(call)?;
        if let Some(Hops(hops)) = call.scratch.get() {
            *R::path_ids_mut(&mut record) = hops;
        }
        let answer = next.request(call, record).await;
        call.path.index = before;
        answer
    }

    async fn close(
        &self,
        call: &mut Call,
        mut record: R::Item,
        next: Next<R>,
    ) -> Result<(), Error> {
        let before = self.enter(call)?;
        if let Some(Hops(hops)) = call.scratch.get() {
            *R::path_ids_mut(&mut record) = hops;
        }
        let answer = next.close(call, record).await;
        call.path.index = before;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_advance() {
        for (index, segments, expected) in [
            (0, 0, Ok((0, 2))),
            (0, 1, Ok((0, 2))),
            (0, 2, Ok((0, 2))),
            (1, 2, Ok((1, 3))),
            (1, 4, Ok((1, 4))),
            (2, 2, Err("index is 2 but there are 2 segments")),
            (
                u32::MAX,
                2,
                Err("index is 4294967295 but there are 2 segments"),
            ),
            (63, 64, Err("more than 64 segments")),
        ] {
            let mut path = Path {
                index,
                path_segments: vec![PathSegment::default(); segments],
                ..Path::default()
            };
            match (advance(&mut path), expected) {
                (Ok(before), Ok((expected, length))) => {
                    assert_eq!((before, path.index), (expected, expected + 1));
                    assert_eq!(path.path_segments.len(), length);
                }
                (Err(error), Err(says)) => assert!(error.message.contains(says), "{error}"),
                (answer, _) => panic!("index {index} of {segments}: {answer:?}"),
            }
        }
    }
}
