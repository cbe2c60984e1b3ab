package selection

import (
	"strings"
	"testing"

	"interop/internal/gen/registry"
)

type labels = map[string]string

func endpoint(name string, of labels) *registry.NetworkServiceEndpoint {
	return &registry.NetworkServiceEndpoint{Name: name, NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{
		"s": {Labels: of},
	}}
}

func names(endpoints []*registry.NetworkServiceEndpoint) string {
	var all []string
	for _, endpoint := range endpoints {
		all = append(all, endpoint.GetName())
	}
	return strings.Join(all, " ")
}

func route(selector labels) *registry.Destination {
	return &registry.Destination{DestinationSelector: selector}
}

func TestIsSubset(t *testing.T) {
	for _, row := range []struct {
		name                         string
		labels, selector, connection labels
		want                         bool
	}{
		{"nothing asked", nil, nil, nil, true},
		{"fits", labels{"a": "1", "b": "2"}, labels{"a": "1"}, nil, true},
		{"another value", labels{"a": "1"}, labels{"a": "2"}, nil, false},
		{"a template", labels{"node": "n1"}, labels{"node": "{{ .nodeName }}"}, labels{"nodeName": "n1"}, true},
		{"a template of nothing", labels{"node": "<no value>"}, labels{"node": "{{ .nodeName }}"}, labels{}, true},
		{"no template", labels{"a": "{{"}, labels{"a": "{{"}, nil, true},
		{"an empty value for a missing key", labels{"a": "1"}, labels{"b": ""}, nil, true},
		{"but not with too few labels", nil, labels{"b": ""}, nil, false},
	} {
		if got := IsSubset(row.labels, row.selector, row.connection); got != row.want {
			t.Errorf("%s: got %v", row.name, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	all := []*registry.NetworkServiceEndpoint{endpoint("a", labels{"x": "1", "y": "1"}), endpoint("b", labels{"x": "2"})}
	for _, row := range []struct {
		name    string
		matches []*registry.Match
		want    string
	}{
		{"no matches", nil, "a b"},
		{"none applies", []*registry.Match{{SourceSelector: labels{"from": "elsewhere"}}}, ""},
		{"no routes", []*registry.Match{{}}, ""},
		{"no routes but metadata", []*registry.Match{{Metadata: &registry.Metadata{}}}, "a b"},
		{"one fits", []*registry.Match{{Routes: []*registry.Destination{route(labels{"x": "2"})}}}, "b"},
		{"one fits twice", []*registry.Match{{Routes: []*registry.Destination{route(labels{"x": "1"}), route(labels{"y": "1"})}}}, "a a"},
		{"falls through", []*registry.Match{
			{Fallthrough: true, Routes: []*registry.Destination{route(labels{"x": "3"})}},
			{Routes: []*registry.Destination{route(nil)}},
		}, "a b"},
		{"does not fall through", []*registry.Match{
			{Routes: []*registry.Destination{route(labels{"x": "3"})}},
			{Routes: []*registry.Destination{route(nil)}},
		}, ""},
	} {
		service := &registry.NetworkService{Name: "s", Matches: row.matches}
		if got := names(Endpoints(labels{"from": "here"}, service, all)); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestForwarders(t *testing.T) {
	all := []*registry.NetworkServiceEndpoint{endpoint("a", labels{"p2p": "true"}), endpoint("b", labels{"fast": "yes"})}
	for _, row := range []struct {
		name    string
		matches []*registry.Match
		want    string
	}{
		{"no matches", nil, "a b"},
		{"the default", []*registry.Match{{}}, "a"},
		{"by metadata", []*registry.Match{{Metadata: &registry.Metadata{Labels: labels{"fast": "yes"}}}}, "b"},
		{"falls through", []*registry.Match{
			{Fallthrough: true, Metadata: &registry.Metadata{Labels: labels{"fast": "no"}}}, {},
		}, "a"},
	} {
		service := &registry.NetworkService{Name: "service", Matches: row.matches}
		if got := names(Forwarders(nil, service, "s", all)); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}
