package ipam

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseGroups reads `[a,b],c`: each connection gets a pair from each group; within a group the
// prefixes are alternatives.
func ParseGroups(text string) ([][]netip.Prefix, error) {
	var groups [][]netip.Prefix
	inside := false
	for item := range strings.SplitSeq(strings.ReplaceAll(text, " ", ""), ",") {
		opens, closes := strings.HasPrefix(item, "["), strings.HasSuffix(item, "]")
		if opens && inside || closes && !opens && !inside {
			return nil, fmt.Errorf("prefix groups %q: the brackets are not balanced", text)
		}
		prefix, err := netip.ParsePrefix(strings.Trim(item, "[]"))
		if err != nil {
			return nil, fmt.Errorf("prefix groups %q: %w", text, err)
		}
		if !inside {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], prefix)
		inside = (inside || opens) && !closes
	}
	if inside {
		return nil, fmt.Errorf("prefix groups %q: the brackets are not balanced", text)
	}
	return groups, nil
}
