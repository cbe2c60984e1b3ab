package path

import (
	"fmt"
	"strings"
	"testing"

	"interop/internal/gen/connection"
)

// segments reads `name:id` between spaces.
func segments(text string) []*connection.PathSegment {
	var all []*connection.PathSegment
	for field := range strings.FieldsSeq(text) {
		name, id, _ := strings.Cut(field, ":")
		all = append(all, &connection.PathSegment{Name: name, Id: id})
	}
	return all
}

// show writes a connection as `id index name:id ...`, ids that were made as NEW.
func show(conn *connection.Connection) string {
	made := func(id string) string {
		if len(id) == 36 {
			return "NEW"
		}
		return id
	}
	text := fmt.Sprintf("%s %d", made(conn.Id), conn.Path.Index)
	for _, segment := range conn.Path.PathSegments {
		text += fmt.Sprintf(" %s:%s", segment.Name, made(segment.Id))
	}
	return text
}

func TestAdvance(t *testing.T) {
	for name, row := range map[string]struct {
		id    string
		index uint32
		path  string
		hop   string
		want  string
		fails bool
	}{
		"0: no segments":                   {"a", 0, "", "nsc", "a 0 nsc:a", false},
		"0: no segments and no id":         {"", 0, "", "nsc", "NEW 0 nsc:NEW", false},
		"1: the same hop":                  {"a", 0, "nsc:a", "nsc", "a 0 nsc:a", false},
		"1: the same hop, another id":      {"x", 1, "nsc:a mgr:b", "mgr", "b 1 nsc:a mgr:b", false},
		"2: the index is beyond":           {"a", 1, "nsc:a", "mgr", "", true},
		"2: the id is not the segment's":   {"x", 0, "nsc:a", "mgr", "", true},
		"2.1: another hop stood here":      {"a", 0, "nsc:a old:b fwd:c", "mgr", "NEW 1 nsc:a mgr:NEW fwd:c", false},
		"2.2: nobody stood here":           {"a", 0, "nsc:a", "mgr", "NEW 1 nsc:a mgr:NEW", false},
		"2.3: this hop stood here":         {"a", 0, "nsc:a mgr:b fwd:c", "mgr", "b 1 nsc:a mgr:b fwd:c", false},
		"2.3: this hop stood further away": {"b", 1, "nsc:a mgr:b fwd:c", "fwd", "c 2 nsc:a mgr:b fwd:c", false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &connection.Connection{Id: row.id, Path: &connection.Path{Index: row.index, PathSegments: segments(row.path)}}
			place, err := Advance(conn, row.hop)
			if row.fails {
				if err == nil {
					t.Fatalf("went through: %s", show(conn))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if have := show(conn); have != row.want {
				t.Errorf("have %s, want %s", have, row.want)
			}
			Rewind(conn, place)
			if row.id != "" && (conn.Id != row.id || conn.Path.Index != row.index) {
				t.Errorf("rewound to %s %d", conn.Id, conn.Path.Index)
			}
		})
	}
}

func TestTrim(t *testing.T) {
	for index, want := range []string{"a 0 a:a", "a 1 a:a b:b", "a 2 a:a b:b c:c", "a 3 a:a b:b c:c"} {
		conn := &connection.Connection{Id: "a", Path: &connection.Path{Index: uint32(index), PathSegments: segments("a:a b:b c:c")}}
		Trim(conn)
		if have := show(conn); have != want {
			t.Errorf("have %s, want %s", have, want)
		}
	}
}

func TestSelected(t *testing.T) {
	conn := &connection.Connection{
		NetworkService: "svc",
		Path:           &connection.Path{PathSegments: segments("nsc:a mgr:b fwd:c")},
	}
	conn.Path.PathSegments[1].Token = "secret"
	for _, row := range []struct {
		services string
		path     string
		token    string
		want     bool
	}{
		{"", "", "", true},
		{"svc", "", "", true},
		{"other svc", "", "", true},
		{"other", "", "", false},
		{"", "nsc:a", "", true},
		{"", "mgr:b", "", true},
		{"", ":b", "", true},
		{"", "mgr:", "", true},
		{"", "mgr:a", "", false},
		{"", "nsc:a mgr:b fwd:c", "", true},
		{"", ": fwd:c", "", true},
		{"", "nsc:a fwd:c", "", false},
		{"", "nsc:a mgr:b fwd:c nse:d", "", false},
		{"", ": : : :", "", false},
		{"", "mgr:b", "secret", true},
		{"", "mgr:b", "other", false},
		{"other", "mgr:b", "", false},
	} {
		selector := &connection.MonitorScopeSelector{PathSegments: segments(row.path), NetworkServices: strings.Fields(row.services)}
		if row.token != "" {
			selector.PathSegments[0].Token = row.token
		}
		if have := Selected(conn, selector); have != row.want {
			t.Errorf("%+v: have %v", row, have)
		}
	}
}
