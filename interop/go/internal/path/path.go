// Package path moves along a connection's path: a hop finds or makes its segment on the way in,
// and hands the connection back as its caller gave it on the way out.
package path

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/connection"
)

// Place is where a connection stood before a hop's move: what the way back restores.
type Place struct {
	// Index of the caller's segment.
	Index uint32
	// ID of the connection at the caller's.
	ID string
}

// Advance moves a connection to the segment of the hop with this name, and says where it was.
func Advance(conn *connection.Connection, name string) (Place, error) {
	if conn.Path == nil {
		conn.Path = &connection.Path{}
	}
	path := conn.Path
	if len(path.PathSegments) == 0 {
		begin(conn, name)
		return Place{Index: 0, ID: conn.Id}, nil
	}
	if int(path.Index) >= len(path.PathSegments) {
		return Place{}, fmt.Errorf("path: index %d, but %d segments", path.Index, len(path.PathSegments))
	}
	here := path.PathSegments[path.Index]
	if here.Name == name {
		// Another element of the same hop has moved already.
		place := Place{Index: path.Index, ID: conn.Id}
		conn.Id = here.Id
		return place, nil
	}
	if here.Id != conn.Id {
		return Place{}, fmt.Errorf("path: segment %d has id %q, the connection has %q", path.Index, here.Id, conn.Id)
	}
	place := Place{Index: path.Index, ID: conn.Id}
	path.Index++
	conn.Id = enter(path, name)
	return place, nil
}

// begin makes segment 0 of a connection that has no path yet.
func begin(conn *connection.Connection, name string) {
	if conn.Id == "" {
		conn.Id = uuid.NewString()
	}
	conn.Path.Index = 0
	conn.Path.PathSegments = []*connection.PathSegment{{Name: name, Id: conn.Id}}
}

// enter makes the segment at the index this hop's. A stale one of another hop gets a new id;
// the segments right of it are left as they are.
func enter(path *connection.Path, name string) string {
	if int(path.Index) == len(path.PathSegments) {
		path.PathSegments = append(path.PathSegments, &connection.PathSegment{Name: name, Id: uuid.NewString()})
	}
	segment := path.PathSegments[path.Index]
	if segment.Name != name {
		segment.Name, segment.Id = name, uuid.NewString()
	}
	return segment.Id
}

// Rewind puts a connection back to where it stood; the path stays filled in.
func Rewind(conn *connection.Connection, place Place) {
	conn.Id = place.ID
	if conn.Path != nil {
		conn.Path.Index = place.Index
	}
}

// Trim cuts the segments right of the current one.
func Trim(conn *connection.Connection) {
	path := conn.GetPath()
	if path == nil || int(path.Index)+1 >= len(path.PathSegments) {
		return
	}
	path.PathSegments = path.PathSegments[:path.Index+1]
}

// Current is the segment at the index, nil if there is none.
func Current(conn *connection.Connection) *connection.PathSegment {
	return at(conn, int(conn.GetPath().GetIndex()))
}

// Previous is the segment before the index, nil if there is none.
func Previous(conn *connection.Connection) *connection.PathSegment {
	return at(conn, int(conn.GetPath().GetIndex())-1)
}

// Next is the segment after the index, nil if there is none.
func Next(conn *connection.Connection) *connection.PathSegment {
	return at(conn, int(conn.GetPath().GetIndex())+1)
}

func at(conn *connection.Connection, index int) *connection.PathSegment {
	segments := conn.GetPath().GetPathSegments()
	if index < 0 || index >= len(segments) {
		return nil
	}
	return segments[index]
}

// Left is a copy of the path up to the current segment: what a server's policies look at.
func Left(path *connection.Path) *connection.Path {
	left := proto.CloneOf(path)
	if left != nil && int(left.Index)+1 < len(left.PathSegments) {
		left.PathSegments = left.PathSegments[:left.Index+1]
	}
	return left
}
