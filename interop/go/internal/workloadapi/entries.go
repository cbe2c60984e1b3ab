package workloadapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"
)

// Selectors are conditions on a process; all that are given must hold.
type Selectors struct {
	UID   *uint32 `yaml:"uid"`
	Exe   *string `yaml:"exe"`
	Netns *uint64 `yaml:"netns"`
	Pidns *uint64 `yaml:"pidns"`
	Pid   *int32  `yaml:"pid"`
}

// Entry is a SPIFFE ID and the processes that have it.
type Entry struct {
	// ID is the identity.
	ID spiffeid.ID
	// Hint tells a workload with several identities what this one is for; may be empty.
	Hint string
	// Selectors say who gets it.
	Selectors Selectors
}

// Facts are what entries select by.
type Facts struct {
	UID          uint32
	Exe          string
	Netns, Pidns uint64
	Pid          int32
}

type rawEntry struct {
	ID        string    `yaml:"id"`
	Hint      string    `yaml:"hint"`
	Selectors Selectors `yaml:"selectors"`
}

// parseEntries reads the form of the entries of `nsm ca`: a list "entries" of {id, selectors}, each
// with an optional "hint" beside.
func parseEntries(text []byte, domain spiffeid.TrustDomain) ([]Entry, error) {
	var raw struct {
		Entries []rawEntry `yaml:"entries"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the entries are malformed: %w", err)
	}
	entries := make([]Entry, 0, len(raw.Entries))
	for at, entry := range raw.Entries {
		id, err := spiffeid.FromString(entry.ID)
		if err != nil {
			return nil, fmt.Errorf("entry %d: id %q: %w", at+1, entry.ID, err)
		}
		if !id.MemberOf(domain) {
			return nil, fmt.Errorf("entry %d: id %q is not of the trust domain %q", at+1, entry.ID, domain)
		}
		if entry.Selectors == (Selectors{}) {
			return nil, fmt.Errorf("entry %d (%s) has no selectors", at+1, id)
		}
		entries = append(entries, Entry{ID: id, Hint: entry.Hint, Selectors: entry.Selectors})
	}
	return entries, nil
}

// matching returns, in the order of the list, the entries of a process. As with SPIRE it gets them
// all, and takes the first as its default.
func matching(entries []Entry, facts Facts) []Entry {
	var all []Entry
	for _, entry := range entries {
		if entry.Selectors.match(facts) {
			all = append(all, entry)
		}
	}
	return all
}

func (s Selectors) match(facts Facts) bool {
	return holds(s.UID, facts.UID) && holds(s.Exe, facts.Exe) && holds(s.Netns, facts.Netns) &&
		holds(s.Pidns, facts.Pidns) && holds(s.Pid, facts.Pid)
}

func holds[T comparable](wanted *T, is T) bool {
	return wanted == nil || *wanted == is
}
