//! What a path has to prove: to a server by the segments up to its own, to a client by all.
//!
//! The standard policies and what they leave open (upstream-compatible peers never notice): the
//! neighbour's token is in the neighbour's own name and meant for us, so that one that was seen
//! further on cannot be sent again; and an answer holds our own token where ours belongs. Who
//! signed the tokens of hops that are no neighbours cannot be told, since nobody sends their
//! certificates: there each has to be meant for the next, and roles say who may speak for others at
//! all.

use std::time::SystemTime;

use nsm_api::connection::Path;
use nsm_identity::token::Claims;
use nsm_model::{path::previous, spiffe::SpiffeId};

use crate::standard::{
    Refused, Signatures, next_token_signed, prev_token_signed, tokens_chained, tokens_expired,
    tokens_valid,
};

/// What a path is held against.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// Who we are.
    pub own: &'a SpiffeId,
    /// Who is on the other side of the connection that it came by.
    pub peer: &'a SpiffeId,
    /// The peer's leaf certificate, DER.
    pub certificate: &'a [u8],
    /// The time for expiry; none on Close, since what has expired may still be let go.
    pub now: Option<SystemTime>,
    /// Checks signatures.
    pub signatures: &'a dyn Signatures,
}

impl std::fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proof({} to {})", self.peer, self.own)
    }
}

impl Proof<'_> {
    /// A caller's path, at our own segment: its left side and ours. The right side is what an
    /// earlier request left there.
    ///
    /// # Errors
    /// What is not proved.
    pub fn of_request(&self, path: &Path) -> Result<(), Refused> {
        self.neighbour(path)?;
        let own = path.index as usize;
        let left = path.path_segments.get(..=own).unwrap_or_default();
        let tokens = tokens_valid(left)?;
        if let Some(now) = self.now {
            tokens_expired(&tokens, now)?;
        }
        tokens_chained(&tokens)
    }

    /// The caller's own segment alone, in a path at our own segment: of a hop that has no tokens of
    /// those before it. It has to hold at `time`.
    ///
    /// # Errors
    /// What is not proved.
    pub fn of_neighbour(&self, path: &Path, time: SystemTime) -> Result<(), Refused> {
        let claims = self.neighbour(path)?;
        claims.check_expiry(time).map_err(|error| Refused::Token {
            segment: previous(path).map_or_else(String::new, |segment| segment.name.clone()),
            error,
        })
    }

    fn neighbour(&self, path: &Path) -> Result<Claims, Refused> {
        let claims = prev_token_signed(path, self.peer, self.certificate, self.signatures)?;
        self.subject(&claims)?;
        self.audience(&claims)?;
        Ok(claims)
    }

    /// An answer's path, whose segment at `path.index` is ours: all of it.
    ///
    /// # Errors
    /// What is not proved.
    pub fn of_answer(&self, path: &Path) -> Result<(), Refused> {
        let claims = next_token_signed(path, self.peer, self.certificate, self.signatures)?;
        self.subject(&claims)?;
        // A hop that asked another one has left the token there that it asked with.
        if path.path_segments.len() == path.index as usize + 2 {
            self.audience(&claims)?;
        }
        let tokens = tokens_valid(&path.path_segments)?;
        if let Some(now) = self.now {
            tokens_expired(&tokens, now)?;
        }
        tokens_chained(&tokens)?;
        match tokens.claims(path.index as usize) {
            Some(ours) if ours.sub != self.own.as_str() => Err(Refused::Own {
                peer: self.peer.clone(),
                sub: ours.sub.clone(),
                own: self.own.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn subject(&self, claims: &Claims) -> Result<(), Refused> {
        if claims.sub != self.peer.as_str() {
            return Err(Refused::Subject {
                peer: self.peer.clone(),
                sub: claims.sub.clone(),
            });
        }
        Ok(())
    }

    fn audience(&self, claims: &Claims) -> Result<(), Refused> {
        if !claims.aud.iter().any(|aud| aud == self.own.as_str()) {
            return Err(Refused::Audience {
                peer: self.peer.clone(),
                meant: claims.aud.clone(),
                own: self.own.clone(),
            });
        }
        Ok(())
    }
}
