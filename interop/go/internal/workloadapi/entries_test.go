package workloadapi

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestEntries(t *testing.T) {
	facts := Facts{UID: 7, Exe: "/bin/nsm", Netns: 40, Pidns: 41, Pid: 5}
	for _, row := range []struct{ name, text, ids, wrong string }{
		{name: "none", text: "entries: []"},
		{name: "an empty file", text: ""},
		{name: "a pid namespace", text: "entries:\n  - id: spiffe://d/a\n    selectors: { pidns: 41 }", ids: "spiffe://d/a"},
		{name: "another", text: "entries:\n  - id: spiffe://d/a\n    selectors: { pidns: 42 }"},
		{name: "both conditions", text: "entries:\n  - id: spiffe://d/a\n    selectors: { pidns: 41, uid: 8 }"},
		{name: "two, in order", ids: "spiffe://d/b spiffe://d/a",
			text: "entries:\n  - id: spiffe://d/b\n    hint: out\n    selectors: { uid: 7 }\n  - id: spiffe://d/a\n    selectors: { exe: /bin/nsm, netns: 40, pid: 5 }"},
		{name: "no selector", text: "entries:\n  - id: spiffe://d/a\n    selectors: {}", wrong: "no selectors"},
		{name: "another domain", text: "entries:\n  - id: spiffe://e/a\n    selectors: { uid: 7 }", wrong: "not of the trust domain"},
		{name: "no SPIFFE ID", text: "entries:\n  - id: a\n    selectors: { uid: 7 }", wrong: "entry 1: id \"a\""},
		{name: "an unknown selector", text: "entries:\n  - id: spiffe://d/a\n    selectors: { gid: 7 }", wrong: "gid"},
	} {
		t.Run(row.name, func(t *testing.T) {
			entries, err := parseEntries([]byte(row.text), spiffeid.RequireTrustDomainFromString("d"))
			if row.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), row.wrong) {
					t.Fatalf("got %v, want an error with %q", err, row.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, entry := range matching(entries, facts) {
				ids = append(ids, entry.ID.String())
			}
			if got := strings.Join(ids, " "); got != row.ids {
				t.Fatalf("got %q, want %q", got, row.ids)
			}
		})
	}
}
