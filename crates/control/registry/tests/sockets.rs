//! The sockets of a node's endpoints, which come beside the answers that name them.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use buffa::MessageField;
use nsm_api::registry::{
    NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceEndpointResponse,
};
use nsm_chain::{Call, Chain, Directory as _, Endpoints, Error, Target, Tasks};
use nsm_identity::{Identity, IdentitySource, ca::Root};
use nsm_model::url::EndpointUrl;
use nsm_registry::remote::Remote;
use nsm_rpc::{Answers, Find, Listener, Pool, Server, TokenSource, Transport, inode_url};
use tokio::time::Instant;

/// A manager's view of one endpoint of its node.
struct Shows(OwnedFd);

#[async_trait]
impl Find<Endpoints> for Shows {
    async fn find(
        &self,
        call: Call,
        _: NetworkServiceEndpointQuery,
    ) -> Result<Answers<NetworkServiceEndpointResponse>, Error> {
        call.caller.unwrap().descriptors.send(self.0.as_fd())?;
        let endpoint = NetworkServiceEndpoint {
            name: "nse".to_owned(),
            url: inode_url(&self.0).unwrap().to_string(),
            ..Default::default()
        };
        let answer = NetworkServiceEndpointResponse {
            network_service_endpoint: MessageField::some(endpoint),
            ..Default::default()
        };
        Ok(Box::pin(futures_util::stream::iter([Ok(answer)])))
    }
}

fn identity(root: &Root, name: &str) -> Arc<Identity> {
    let id = format!("spiffe://nsm.test/{name}").parse().unwrap();
    root.issue(&id, Duration::from_secs(3600)).unwrap()
}

#[tokio::test]
async fn one_that_came_over_a_connection_of_before_is_asked_for_anew() {
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().unwrap());
    let _guard = tasks.guard();
    let root = Root::generate("nsm.test".parse().unwrap()).unwrap();
    let path = folder.path().join("nsm.sock");
    let address = EndpointUrl::Unix(path.to_str().unwrap().to_owned());
    let shows = Shows(tempfile::tempfile().unwrap().into());
    let routes = Server::new().endpoints(Chain::new(Vec::new()), shows);
    let routes = routes.routes().await;
    let listener = Listener::bind(std::slice::from_ref(&address))
        .await
        .unwrap();
    let manager = IdentitySource::fixed(identity(&root, "manager"));
    tasks.spawn(async move {
        let served = listener.serve(routes, &manager, std::future::pending());
        served.await.unwrap();
    });
    let (rotated, source) = IdentitySource::channel(identity(&root, "forwarder"));
    let pool = Pool::new(source.clone(), tasks.clone());
    let transport = Transport::new(pool, TokenSource::new(source));
    let remote = Remote::new(transport, Target::Url(address));
    let deadline = Instant::now() + Duration::from_secs(10);
    for rotates in [false, true] {
        let endpoint = remote.endpoint("nse", deadline).await.unwrap();
        if rotates {
            rotated.publish(identity(&root, "forwarder"));
        }
        let began = Instant::now();
        let target = remote.target(&endpoint, deadline).await;
        let came = matches!(target, Ok(Target::Socket(..)));
        assert!(came, "rotates {rotates}: {target:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{rotates}");
    }
}
