package replay

import (
	"errors"
	"testing"

	"github.com/golang-jwt/jwt/v4"

	"interop/internal/recording"
)

func token(t *testing.T, from, to string) string {
	t.Helper()
	claims := jwt.RegisteredClaims{Subject: from, Audience: jwt.ClaimStrings{to}}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func nobody(string, string) (string, error) { return "", errors.New("nobody has the key") }

func TestSame(t *testing.T) {
	n := newNames(nobody)
	n.urls = [][2]string{{"tcp://10.0.0.1:5001", "tcp://127.0.0.1:4711"}}
	// The rows tie names for those after them.
	for _, row := range []struct {
		name, recorded, live string
		want                 bool
	}{
		{"plain", "svc", "svc", true},
		{"another", "svc", "svd", false},
		{"any time", "<now +5s>", "2026-11-23T09:00:00Z", true},
		{"no time", "<now +5s>", "soon", false},
		{"an id the first time", "<id 1>", "a", true},
		{"again", "<id 1>", "a", true},
		{"another for the same name", "<id 1>", "b", false},
		{"the same for another name", "<id 2>", "a", false},
		{"within a text", "@/tmp/<id 2>/s of <id 1>", "@/tmp/b/s of a", true},
		{"a URL that is mapped", "tcp://10.0.0.1:5001", "tcp://127.0.0.1:4711", true},
		{"a token by its names", "<token spiffe://d/a to spiffe://d/b>", token(t, "spiffe://d/a", "spiffe://d/b"), true},
		{"for somebody else", "<token spiffe://d/a to spiffe://d/b>", token(t, "spiffe://d/a", "spiffe://d/c"), false},
	} {
		if got := n.same(row.recorded, row.live); got != row.want {
			t.Errorf("%s: got %v", row.name, got)
		}
	}
	if said := n.sayText("<id 1> at tcp://10.0.0.1:5001"); said != "a at tcp://127.0.0.1:4711" {
		t.Errorf("said %q", said)
	}
	own := token(t, "spiffe://d/program", "spiffe://d/a")
	n.learn(map[string]any{"segments": []any{own}})
	if said := n.sayText("<token spiffe://d/program to spiffe://d/a>"); said != own {
		t.Errorf("the program's token is said as %q", said)
	}
}

func TestCompare(t *testing.T) {
	type data = map[string]any
	for _, row := range []struct {
		name           string
		recorded, live data
		want           string
	}{
		{"the same", data{"a": 1.0, "b": []any{"x"}}, data{"a": 1.0, "b": []any{"x"}}, ""},
		{"another number", data{"a": 1.0}, data{"a": 2.0}, "m.a"},
		{"missing", data{"a": data{"b": "x"}}, data{"a": data{}}, "m.a.b"},
		{"too much", data{}, data{"a": true}, "m.a"},
		{"another length", data{"a": []any{"x"}}, data{"a": []any{"x", "y"}}, "m.a"},
		{"none and an empty list", data{"a": nil}, data{"a": []any{}}, ""},
		{"a key that is an id", data{"a": data{"<id 9>": "x"}}, data{"a": data{"7": "x"}}, ""},
	} {
		got := ""
		newNames(nobody).compare("m", row.recorded, row.live, func(field, _, _ string) { got += field })
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestAllowances(t *testing.T) {
	difference := difference{
		event: recording.Event{Method: "/a.B/C", Kind: recording.Answer},
		field: "message.path.pathSegments.3.metrics.rx",
	}
	for _, row := range []struct {
		field string
		want  bool
	}{
		{"message.path.pathSegments.*.metrics.**", true},
		{"message.**", true},
		{"message.path.pathSegments.*.metrics", false},
		{"message.path.pathSegments.*.token", false},
	} {
		allowance := Allowance{Role: "manager", Method: "*", Field: row.field}
		if got := allowance.allows("manager", difference); got != row.want {
			t.Errorf("%s: got %v", row.field, got)
		}
	}
	if (Allowance{Role: "registry", Field: "message.**"}).allows("manager", difference) {
		t.Error("an allowance of another role holds")
	}
}
