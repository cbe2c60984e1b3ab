package elements

import (
	"interop/internal/gen/connection"
	"interop/internal/mechanism"
)

// About is what a log line says of a connection.
func About(conn *connection.Connection) []any { return about(conn, conn.GetId()) }

// about says it under an ID, as there may be no connection any more.
func about(conn *connection.Connection, id string) []any {
	if conn == nil {
		return []any{"id", id}
	}
	ip := conn.GetContext().GetIpContext()
	return []any{
		"id", id,
		"service", conn.GetNetworkService(),
		"nse", conn.GetNetworkServiceEndpointName(),
		"src", ip.GetSrcIpAddrs(),
		"dst", ip.GetDstIpAddrs(),
		"mechanism", conn.GetMechanism().GetType(),
		"interface", conn.GetMechanism().GetParameters()[mechanism.Name],
		"payload", conn.GetPayload(),
		"mtu", conn.GetContext().GetMTU(),
		"hops", len(conn.GetPath().GetPathSegments()),
	}
}
