// Package clientinfo knows where this process runs, for labels.
package clientinfo

import "os"

// Add adds the names of node, pod and cluster, as far as the environment says them and the labels
// do not say otherwise.
func Add(labels map[string]string) {
	for name, label := range map[string]string{
		"NODE_NAME":    "nodeName",
		"POD_NAME":     "podName",
		"CLUSTER_NAME": "clusterName",
	} {
		value, known := os.LookupEnv(name)
		if _, taken := labels[label]; known && !taken {
			labels[label] = value
		}
	}
}
