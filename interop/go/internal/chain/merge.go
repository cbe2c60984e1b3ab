package chain

import (
	"maps"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
	"interop/internal/gen/connectioncontext"
)

// merge is the connection as it is now, with what the caller has changed of what was returned to
// it: the endpoint's name and the context. Other changes are dropped.
func merge(returned, asked, now *connection.Connection) *connection.Connection {
	if returned == nil || now == nil {
		return asked
	}
	merged := proto.CloneOf(now)
	if asked.GetNetworkServiceEndpointName() != returned.GetNetworkServiceEndpointName() {
		merged.NetworkServiceEndpointName = asked.GetNetworkServiceEndpointName()
	}
	merged.Context = mergeContext(returned.GetContext(), asked.GetContext(), now.GetContext())
	return merged
}

func mergeContext(returned, asked, now *connectioncontext.ConnectionContext) *connectioncontext.ConnectionContext {
	if now == nil {
		return asked
	}
	merged := proto.CloneOf(now)
	if proto.Equal(returned, asked) {
		return merged
	}
	merged.IpContext = asked.GetIpContext()
	merged.EthernetContext = asked.GetEthernetContext()
	merged.DnsContext = asked.GetDnsContext()
	merged.MTU = asked.GetMTU()
	merged.ExtraContext = mergeExtra(returned.GetExtraContext(), asked.GetExtraContext(), now.GetExtraContext())
	return merged
}

// mergeExtra changes and deletes keys that the caller had been given; it adds none.
func mergeExtra(returned, asked, now map[string]string) map[string]string {
	merged := maps.Clone(now)
	if merged == nil {
		merged = map[string]string{}
	}
	for key, value := range returned {
		if wanted, kept := asked[key]; !kept {
			delete(merged, key)
		} else if wanted != value {
			merged[key] = wanted
		}
	}
	return merged
}
