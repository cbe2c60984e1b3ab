package recording

import (
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// Patterns of what is different each time.
var (
	uuids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	inodes  = regexp.MustCompile(`inode://[0-9]+/[0-9]+`)
	tokens  = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	moments = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`)
)

// Namer gives names to what is different each time: the same thing has the same name everywhere
// in a recording.
type Namer struct {
	// Random is more that is different each time; nil is nothing.
	Random *regexp.Regexp
	known  map[string]string
}

// name is the name of a thing, by its kind and the order of appearance.
func (n *Namer) name(kind, thing string) string {
	if n.known == nil {
		n.known = make(map[string]string)
	}
	if name, seen := n.known[thing]; seen {
		return name
	}
	count := 1
	for _, name := range n.known {
		if matched, _ := regexp.MatchString(`^<`+kind+` `, name); matched {
			count++
		}
	}
	n.known[thing] = fmt.Sprintf("<%s %d>", kind, count)
	return n.known[thing]
}

// Text names what is in a text, said at this time.
func (n *Namer) Text(text string, at time.Time) string {
	if moments.MatchString(text) {
		if moment, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return Moment(moment, at)
		}
	}
	text = tokens.ReplaceAllStringFunc(text, Token)
	text = uuids.ReplaceAllStringFunc(text, func(id string) string { return n.name("id", id) })
	if n.Random != nil {
		text = n.Random.ReplaceAllStringFunc(text, func(any string) string { return n.name("any", any) })
	}
	return inodes.ReplaceAllStringFunc(text, func(inode string) string { return n.name("inode", inode) })
}

// Data names what is in data, keys of maps included.
func (n *Namer) Data(data any, at time.Time) any {
	switch data := data.(type) {
	case string:
		return n.Text(data, at)
	case []any:
		named := make([]any, len(data))
		for index, item := range data {
			named[index] = n.Data(item, at)
		}
		return named
	case map[string]any:
		named := make(map[string]any, len(data))
		for key, item := range data {
			named[n.Text(key, at)] = n.Data(item, at)
		}
		return named
	default:
		return data
	}
}

// Moment is a time seen from another, in whole seconds.
func Moment(moment, from time.Time) string {
	return fmt.Sprintf("<now %+ds>", int(math.Round(moment.Sub(from).Seconds())))
}

// Token is a JWT by its subject and audience; what cannot be read stays.
func Token(text string) string {
	claims := jwt.RegisteredClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(text, &claims); err != nil {
		return text
	}
	return TokenName(claims.Subject, claims.Audience)
}

// TokenName is the name of a token from somebody to somebody.
func TokenName(from string, to []string) string {
	if len(to) == 0 {
		return fmt.Sprintf("<token %s>", from)
	}
	return fmt.Sprintf("<token %s to %s>", from, to[0])
}
