package replay

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"interop/internal/recording"
)

// anyLength is short enough for an interface's name.
const anyLength = 8

// Names in a recording.
var (
	things  = regexp.MustCompile(`<(id|inode|any) [0-9]+>`)
	tokens  = regexp.MustCompile(`<token ([^ >]+)(?: to ([^ >]+))?>`)
	moments = regexp.MustCompile(`^<now ([+-][0-9]+)s>$`)
	// jwts and inodes are what names of tokens and files stand for.
	jwts = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
)

// names ties the names of a recording to what they stand for this time.
type names struct {
	// mint makes a token of a peer that is played.
	mint func(from, to string) (string, error)

	mu       sync.Mutex
	live     map[string]string
	recorded map[string]string
	// tokens are the newest seen, by name: the recorded program's own cannot be made.
	tokens map[string]string
	// urls are pairs of what stands in the recording and what it is this time.
	urls [][2]string
}

func newNames(mint func(from, to string) (string, error)) *names {
	return &names{mint: mint, live: map[string]string{}, recorded: map[string]string{}, tokens: map[string]string{}}
}

// bind ties a name; it fails where either is tied to something else.
func (n *names) bind(name, live string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if is, known := n.live[name]; known && is != live {
		return fmt.Errorf("%s is %s, not %s", name, is, live)
	}
	if is, known := n.recorded[live]; known && is != name {
		return fmt.Errorf("%s is %s, not %s", live, is, name)
	}
	n.live[name], n.recorded[live] = live, name
	return nil
}

// bound is what a name stands for, if that is known.
func (n *names) bound(name string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	live, known := n.live[name]
	return live, known
}

// learn remembers the tokens in what was said live.
func (n *names) learn(data any) {
	switch data := data.(type) {
	case string:
		for _, token := range jwts.FindAllString(data, -1) {
			n.mu.Lock()
			n.tokens[recording.Token(token)] = token
			n.mu.Unlock()
		}
	case []any:
		for _, item := range data {
			n.learn(item)
		}
	case map[string]any:
		for _, item := range data {
			n.learn(item)
		}
	}
}

// say makes of what was recorded what is to be said this time.
func (n *names) say(data any) any {
	switch data := data.(type) {
	case string:
		return n.sayText(data)
	case []any:
		said := make([]any, len(data))
		for at, item := range data {
			said[at] = n.say(item)
		}
		return said
	case map[string]any:
		said := make(map[string]any, len(data))
		for key, item := range data {
			said[n.sayText(key)] = n.say(item)
		}
		return said
	default:
		return data
	}
}

func (n *names) sayText(text string) string {
	if moment := moments.FindStringSubmatch(text); moment != nil {
		seconds, _ := strconv.Atoi(moment[1])
		return time.Now().Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339Nano)
	}
	text = tokens.ReplaceAllStringFunc(text, n.token)
	text = things.ReplaceAllStringFunc(text, func(name string) string {
		if live, known := n.bound(name); known {
			return live
		}
		if strings.HasPrefix(name, "<inode") {
			// Of a file that nobody has.
			return name
		}
		live := uuid.NewString()
		if strings.HasPrefix(name, "<any") {
			live = live[:anyLength]
		}
		_ = n.bind(name, live)
		return live
	})
	for _, pair := range n.urls {
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

func (n *names) token(name string) string {
	parts := tokens.FindStringSubmatch(name)
	if made, err := n.mint(parts[1], parts[2]); err == nil {
		return made
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if seen, known := n.tokens[name]; known {
		return seen
	}
	return name
}

// same tells whether what was said live is what was recorded, as far as the names are tied, and
// ties those that are not.
func (n *names) same(recorded, live string) bool {
	if moments.MatchString(recorded) {
		_, err := time.Parse(time.RFC3339Nano, live)
		return err == nil
	}
	for _, pair := range n.urls {
		live = strings.ReplaceAll(live, pair[1], pair[0])
	}
	live = jwts.ReplaceAllStringFunc(live, recording.Token)
	if !things.MatchString(recorded) {
		return recorded == live
	}
	pattern, all := "", things.FindAllString(recorded, -1)
	for at, between := range things.Split(recorded, -1) {
		pattern += regexp.QuoteMeta(between)
		if at < len(all) {
			pattern += "(.+?)"
		}
	}
	found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(live)
	if found == nil {
		return false
	}
	for at, name := range all {
		if n.bind(name, found[at+1]) != nil {
			return false
		}
	}
	return true
}
