//! Where a workload runs: labels of what it asks for and of what it offers, under upstream's names.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

/// The names of node, pod and cluster, as far as they are known.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct Place {
    /// The label nodeName
    #[arg(long, env = "NODE_NAME")]
    node_name: Option<String>,
    /// The label podName
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,
    /// The label clusterName
    #[arg(long, env = "CLUSTER_NAME")]
    cluster_name: Option<String>,
}

impl Place {
    /// The labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        [
            ("nodeName", &self.node_name),
            ("podName", &self.pod_name),
            ("clusterName", &self.cluster_name),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
        .collect()
    }

    /// These labels, and those of the place that are not among them.
    pub(crate) fn added_to(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.labels();
        all.extend(labels.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_was_given_stays() {
        let place = Place {
            node_name: Some("node-1".to_owned()),
            pod_name: Some("nse-1".to_owned()),
            cluster_name: None,
        };
        let given = BTreeMap::from([("podName".to_owned(), "mine".to_owned())]);
        let all: Vec<_> = place.added_to(&given).into_iter().collect();
        let pairs = [("nodeName", "node-1"), ("podName", "mine")];
        assert_eq!(
            all,
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }
}
