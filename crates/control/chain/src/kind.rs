//! The three kinds of request that a chain can carry.

use std::fmt::Debug;

use buffa::Message;
use nsm_api::{
    connection::{Connection, Path},
    networkservice::NetworkServiceRequest,
    registry::{NetworkService, NetworkServiceEndpoint},
};
use nsm_policy::custom::{Custom, Policies};

use crate::{Call, journal};

/// A kind of request, so that an element is written once for connections, services and endpoints.
pub trait Kind: Send + Sync + 'static {
    /// What is asked.
    type Request: Message + Clone + Debug + Send + Sync + 'static;
    /// What is answered, and what a close names.
    type Item: Message + Clone + Debug + Send + Sync + 'static;
    /// The word for one of it in messages and logs.
    const NAME: &'static str;

    /// The item inside a request.
    fn item(request: &Self::Request) -> &Self::Item;
    /// The item inside a request, to change.
    fn item_mut(request: &mut Self::Request) -> &mut Self::Item;
    /// What tells one item from another: a connection's id, a service's or an endpoint's name.
    fn id(item: &Self::Item) -> &str;
    /// The path travelled so far: in the message for connections, beside it for the registry
    /// (wire contract, registry `path` header).
    fn path<'a>(call: &'a Call, item: &'a Self::Item) -> &'a Path;
    /// The path, to change.
    fn path_mut<'a>(call: &'a mut Call, item: &'a mut Self::Item) -> &'a mut Path;
    /// The request that asks again for what was answered.
    fn renew(request: &Self::Request, answer: &Self::Item) -> Self::Request;
    /// Takes a new id where the kind has one (a connection's id is the one of the own segment;
    /// names stay).
    fn set_id(item: &mut Self::Item, id: &str);
    /// Takes the tokens out, which are secrets: for a journal.
    fn strip(item: &mut Self::Item);
    /// Gives an item that a journal kept the tokens that a caller brings.
    fn dress(kept: &mut Self::Item, brought: &Self::Item);
    /// What an operator requires of whoever asks us for one.
    fn policies(custom: &Custom) -> &Policies;
}

/// `networkservice.NetworkService`: Request and Close.
#[derive(Debug)]
pub struct Connections;

/// `registry.NetworkServiceRegistry`: Register and Unregister.
#[derive(Debug)]
pub struct Services;

/// `registry.NetworkServiceEndpointRegistry`: Register and Unregister.
#[derive(Debug)]
pub struct Endpoints;

impl Kind for Connections {
    type Request = NetworkServiceRequest;
    type Item = Connection;
    const NAME: &'static str = "connection";

    fn item(request: &NetworkServiceRequest) -> &Connection {
        &request.connection
    }

    fn item_mut(request: &mut NetworkServiceRequest) -> &mut Connection {
        request.connection.get_or_insert_default()
    }

    fn id(item: &Connection) -> &str {
        &item.id
    }

    fn path<'a>(_: &'a Call, item: &'a Connection) -> &'a Path {
        &item.path
    }

    fn path_mut<'a>(_: &'a mut Call, item: &'a mut Connection) -> &'a mut Path {
        item.path.get_or_insert_default()
    }

    fn renew(request: &NetworkServiceRequest, answer: &Connection) -> NetworkServiceRequest {
        let mut again = request.clone();
        again.connection = buffa::MessageField::some(answer.clone());
        again
    }

    fn set_id(item: &mut Connection, id: &str) {
        id.clone_into(&mut item.id);
    }

    fn strip(item: &mut Connection) {
        journal::without_tokens(item.path.get_or_insert_default());
    }

    fn dress(kept: &mut Connection, brought: &Connection) {
        journal::with_tokens(kept.path.get_or_insert_default(), &brought.path);
    }

    fn policies(custom: &Custom) -> &Policies {
        &custom.server
    }
}

/// The registry's two kinds differ in their message alone.
macro_rules! registry_kind {
    ($kind:ty, $item:ty, $name:literal) => {
        impl Kind for $kind {
            type Request = $item;
            type Item = $item;
            const NAME: &'static str = $name;

            fn item(request: &$item) -> &$item {
                request
            }

            fn item_mut(request: &mut $item) -> &mut $item {
                request
            }

            fn id(item: &$item) -> &str {
                &item.name
            }

            fn path<'a>(call: &'a Call, _: &'a $item) -> &'a Path {
                &call.path
            }

            fn path_mut<'a>(call: &'a mut Call, _: &'a mut $item) -> &'a mut Path {
                &mut call.path
            }

            fn renew(_: &$item, answer: &$item) -> $item {
                answer.clone()
            }

            fn set_id(_: &mut $item, _: &str) {}

            fn strip(_: &mut $item) {}

            fn dress(_: &mut $item, _: &$item) {}

            fn policies(custom: &Custom) -> &Policies {
                &custom.registry_server
            }
        }
    };
}

registry_kind!(Services, NetworkService, "network service");
registry_kind!(Endpoints, NetworkServiceEndpoint, "endpoint");
