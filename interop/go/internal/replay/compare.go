package replay

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"interop/internal/recording"
)

// difference is something said otherwise than recorded.
type difference struct {
	// event where it was.
	event recording.Event
	// field is a path with dots: message.path.index, metadata.path, code, call.
	field          string
	recorded, live string
}

func (d difference) String() string {
	return fmt.Sprintf("call %d, %s %s %s, %s\n  recorded: %s\n  now:      %s",
		d.event.Call, d.event.Direction, d.event.Method, d.event.Kind, d.field, d.recorded, d.live)
}

// Allowance is a difference that is meant.
type Allowance struct {
	// Role, Method and Kind as in recordings; "*" is any.
	Role   string `yaml:"role"`
	Method string `yaml:"method"`
	Kind   string `yaml:"kind"`
	// Field is a path with dots; `*` is any one part, `**` at the end all below.
	Field string `yaml:"field"`
	// Why it is meant.
	Why string `yaml:"why"`
}

// ReadAllowances reads a list of them.
func ReadAllowances(file string) ([]Allowance, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []Allowance
	if err := yaml.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for at, allowance := range all {
		if allowance.Why == "" || allowance.Field == "" {
			return nil, fmt.Errorf("%s: allowance %d: field and why are needed", file, at+1)
		}
	}
	return all, nil
}

func (a Allowance) allows(role string, d difference) bool {
	return fits(a.Role, role) && fits(a.Method, d.event.Method) && fits(a.Kind, d.event.Kind) &&
		within(strings.Split(a.Field, "."), strings.Split(d.field, "."))
}

func fits(wanted, is string) bool { return wanted == "" || wanted == "*" || wanted == is }

func within(pattern, field []string) bool {
	for at, part := range pattern {
		if part == "**" {
			return true
		}
		if at >= len(field) || part != "*" && part != field[at] {
			return false
		}
	}
	return len(pattern) == len(field)
}

// compare reports where live data are not what was recorded.
func (n *names) compare(field string, recorded, live any, report func(field, recorded, live string)) {
	switch recorded := recorded.(type) {
	case map[string]any:
		other, ok := live.(map[string]any)
		if !ok {
			report(field, text(recorded), text(live))
			return
		}
		n.compareMaps(field, recorded, other, report)
	case []any:
		other, ok := live.([]any)
		if !ok || len(other) != len(recorded) {
			report(field, text(recorded), text(live))
			return
		}
		for at, item := range recorded {
			n.compare(fmt.Sprintf("%s.%d", field, at), item, other[at], report)
		}
	case string:
		other, ok := live.(string)
		if !ok || !n.same(recorded, other) {
			report(field, text(recorded), text(live))
		}
	default:
		if recorded != live && !(empty(recorded) && empty(live)) {
			report(field, text(recorded), text(live))
		}
	}
}

// empty is a list without anything in it, or none.
func empty(data any) bool {
	list, ok := data.([]any)
	return data == nil || ok && len(list) == 0
}

func (n *names) compareMaps(field string, recorded, live map[string]any, report func(field, recorded, live string)) {
	rest := maps.Clone(live)
	for _, key := range slices.Sorted(maps.Keys(recorded)) {
		is := n.keyOf(key, rest)
		item, known := rest[is]
		if !known {
			report(field+"."+key, text(recorded[key]), "nothing")
			continue
		}
		delete(rest, is)
		n.compare(field+"."+key, recorded[key], item, report)
	}
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		report(field+"."+key, "nothing", text(rest[key]))
	}
}

// keyOf is the key that a recorded one stands for: a name that is not tied is tied to the only key
// there is.
func (n *names) keyOf(key string, live map[string]any) string {
	if !things.MatchString(key) {
		return key
	}
	if is, known := n.bound(key); known {
		return is
	}
	for only := range live {
		if len(live) == 1 && n.same(key, only) {
			return only
		}
	}
	return key
}

func text(data any) string {
	if data == nil {
		return "nothing"
	}
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Sprint(data)
	}
	named := jwts.ReplaceAllStringFunc(string(text), recording.Token)
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(named)
}
