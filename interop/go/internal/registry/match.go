package registry

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/registry"
)

// MatchService tells whether a service is what a query asks for; an empty field asks for any.
func MatchService(query, is *registry.NetworkService) bool {
	if query.GetName() != "" && query.GetName() != is.GetName() ||
		query.GetPayload() != "" && query.GetPayload() != is.GetPayload() {
		return false
	}
	if len(query.GetMatches()) == 0 {
		return true
	}
	if len(query.GetMatches()) != len(is.GetMatches()) {
		return false
	}
	for at, match := range query.GetMatches() {
		if !proto.Equal(match, is.GetMatches()[at]) {
			return false
		}
	}
	return true
}

// MatchEndpoint tells whether an endpoint is what a query asks for; an empty field asks for any,
// names and labels must be contained, and the URL is looked for within the URL.
func MatchEndpoint(query, is *registry.NetworkServiceEndpoint) bool {
	return (query.GetName() == "" || query.GetName() == is.GetName()) &&
		(query.GetExpirationTime() == nil || query.GetExpirationTime().GetSeconds() == is.GetExpirationTime().GetSeconds()) &&
		strings.Contains(is.GetUrl(), query.GetUrl()) &&
		containsAll(is.GetNetworkServiceNames(), query.GetNetworkServiceNames()) &&
		containsLabels(is.GetNetworkServiceLabels(), query.GetNetworkServiceLabels())
}

func containsAll(where, what []string) bool {
	has := make(map[string]bool)
	for _, item := range where {
		has[item] = true
	}
	for _, item := range what {
		if !has[item] {
			return false
		}
	}
	return true
}

func containsLabels(where, what map[string]*registry.NetworkServiceLabels) bool {
	for service, labels := range what {
		is, known := where[service]
		if !known {
			return false
		}
		for key, value := range labels.GetLabels() {
			if has, known := is.GetLabels()[key]; !known || has != value {
				return false
			}
		}
	}
	return true
}
