// Package selection chooses endpoints by labels, as a network service's matches say.
package selection

import (
	"strings"
	"text/template"

	"interop/internal/gen/registry"
)

// IsSubset tells whether labels fulfil a selector. A selector's value is equal to the label's, or
// becomes so when it is rendered as a template over the connection's labels.
//
// A selector with more keys than there are labels fits nothing; apart from that a value that is
// empty, or renders to nothing, fits a label that is not there.
func IsSubset(labels, selector, connection map[string]string) bool {
	if len(labels) < len(selector) {
		return false
	}
	for key, value := range selector {
		if labels[key] != value && labels[key] != render(value, connection) {
			return false
		}
	}
	return true
}

// render gives what is no template back as it is.
func render(text string, labels map[string]string) string {
	parsed, err := template.New("selector").Parse(text)
	if err != nil {
		return text
	}
	var rendered strings.Builder
	if err := parsed.Execute(&rendered, labels); err != nil {
		return text
	}
	return rendered.String()
}

// Endpoints are the candidates for a connection with these labels, in the order of the service's
// routes; one that fits two routes comes twice.
func Endpoints(connection map[string]string, service *registry.NetworkService, all []*registry.NetworkServiceEndpoint) []*registry.NetworkServiceEndpoint {
	if len(service.GetMatches()) == 0 {
		return all
	}
	for _, match := range service.GetMatches() {
		if !IsSubset(connection, match.GetSourceSelector(), connection) {
			continue
		}
		var fit []*registry.NetworkServiceEndpoint
		for _, route := range match.GetRoutes() {
			for _, endpoint := range all {
				labels := endpoint.GetNetworkServiceLabels()[service.GetName()].GetLabels()
				if IsSubset(labels, route.GetDestinationSelector(), connection) {
					fit = append(fit, endpoint)
				}
			}
		}
		if len(fit) == 0 && match.GetFallthrough() {
			continue
		}
		if len(fit) == 0 && match.GetMetadata() != nil && len(match.GetRoutes()) == 0 {
			return all
		}
		return fit
	}
	return nil
}

// Forwarders are the candidates among a node's forwarders: the first match that applies says by
// its metadata which labels they need, and if it does not, they need `p2p: true`.
func Forwarders(connection map[string]string, service *registry.NetworkService, name string, all []*registry.NetworkServiceEndpoint) []*registry.NetworkServiceEndpoint {
	if len(service.GetMatches()) == 0 {
		return all
	}
	var fit []*registry.NetworkServiceEndpoint
	for _, match := range service.GetMatches() {
		if !IsSubset(connection, match.GetSourceSelector(), connection) {
			continue
		}
		wanted := match.GetMetadata().GetLabels()
		if wanted == nil {
			wanted = map[string]string{"p2p": "true"}
		}
		for _, forwarder := range all {
			labels, known := forwarder.GetNetworkServiceLabels()[name]
			if known && labels != nil && IsSubset(labels.GetLabels(), wanted, connection) {
				fit = append(fit, forwarder)
			}
		}
		if len(fit) > 0 || !match.GetFallthrough() {
			break
		}
	}
	return fit
}
