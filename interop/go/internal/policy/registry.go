package policy

import "interop/internal/meta"

// RegistryInput is what the policies of registry calls look at.
type RegistryInput struct {
	// ResourceID is the SPIFFE ID that the first segment's token claims.
	ResourceID string `json:"resource_id"`
	// ResourceName is the service's or endpoint's.
	ResourceName string `json:"resource_name"`
	// ResourcePathIDs is the path IDs of every name that is known.
	ResourcePathIDs map[string][]string `json:"resource_path_ids_map"`
	// PathSegments of the call.
	PathSegments []*meta.Segment `json:"path_segments"`
	// Index of the current segment.
	Index uint32 `json:"index"`
}
