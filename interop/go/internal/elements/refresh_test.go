package elements

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/connection"
)

func TestRefreshAfter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		index uint32
		lives []time.Duration
		want  time.Duration
	}{
		{0, nil, time.Nanosecond},
		{0, []time.Duration{-time.Second, time.Hour}, time.Nanosecond},
		{0, []time.Duration{time.Minute}, 20 * time.Second},
		{0, []time.Duration{10 * time.Minute, 10 * time.Minute}, 2 * time.Minute},
		{0, []time.Duration{10 * time.Minute, 5 * time.Minute, time.Hour}, time.Minute},
		{2, []time.Duration{10 * time.Minute, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute}, 3 * time.Minute},
	} {
		conn := &connection.Connection{Path: &connection.Path{Index: row.index}}
		for _, life := range row.lives {
			conn.Path.PathSegments = append(conn.Path.PathSegments, &connection.PathSegment{Expires: timestamppb.New(now.Add(life))})
		}
		if have := refreshAfter(conn, now).Round(time.Nanosecond); have != row.want {
			t.Errorf("%v at %d: have %v, want %v", row.lives, row.index, have, row.want)
		}
	}
}
