package path

import (
	"slices"

	"interop/internal/gen/connection"
)

// Selected says whether a monitor with this selector sees the connection: its service is among
// the selector's, and the selector's segments are a run of its own. What is empty fits all.
func Selected(conn *connection.Connection, selector *connection.MonitorScopeSelector) bool {
	services := selector.GetNetworkServices()
	if len(services) > 0 && !slices.Contains(services, conn.GetNetworkService()) {
		return false
	}
	wanted, segments := selector.GetPathSegments(), conn.GetPath().GetPathSegments()
	if len(wanted) == 0 {
		return true
	}
	for from := 0; from+len(wanted) <= len(segments); from++ {
		if runFits(segments[from:from+len(wanted)], wanted) {
			return true
		}
	}
	return false
}

// Select is those of the connections that the selector sees.
func Select(from map[string]*connection.Connection, selector *connection.MonitorScopeSelector) map[string]*connection.Connection {
	seen := map[string]*connection.Connection{}
	for id, conn := range from {
		if Selected(conn, selector) {
			seen[id] = conn
		}
	}
	return seen
}

func runFits(run, wanted []*connection.PathSegment) bool {
	for at, segment := range run {
		want := wanted[at]
		if !fits(want.GetName(), segment.GetName()) || !fits(want.GetId(), segment.GetId()) || !fits(want.GetToken(), segment.GetToken()) {
			return false
		}
	}
	return true
}

func fits(want, have string) bool { return want == "" || want == have }
