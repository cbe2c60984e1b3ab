//! `trimpath`: the last hop cuts what an earlier path left behind it.
//!
//! *What it does*: sdk `pkg/networkservice/common/trimpath`: segments right of our own are dropped
//! from the answer, since nothing follows us.
//! *Where it stands*: in the lists of endpoints alone, after `updatepath`.
//! *On Close*: nothing.

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_model::path;

use crate::{Call, Connections, Element, Error, Next};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct TrimPath;

#[async_trait]
impl Element<Connections> for TrimPath {
    fn name(&self) -> &'static str {
        "trimpath"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let mut connection = next.request(call, request).await?;
        path::trim(connection.path.get_or_insert_default());
        Ok(connection)
    }
}
