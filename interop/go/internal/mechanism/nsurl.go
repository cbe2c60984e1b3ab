package mechanism

import (
	"fmt"
	"net/url"
	"strings"

	"interop/internal/gen/connection"
)

// Ask is what a client's URL asks for: `kernel://service@domain/nsm-1?app=fw`.
type Ask struct {
	// Service, with its domain if there is one.
	Service string
	// Mechanism, with the interface's name if there is one.
	Mechanism *connection.Mechanism
	// Labels of the connection; the values of a repeated key are joined by commas.
	Labels map[string]string
}

// ParseAsk reads the URL.
func ParseAsk(text string) (*Ask, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("network service URL: %w", err)
	}
	if parsed.Scheme == "" || parsed.Hostname() == "" {
		return nil, fmt.Errorf("network service URL %q: want mechanism://service/interface", text)
	}
	ask := &Ask{
		Service:   parsed.Hostname(),
		Mechanism: &connection.Mechanism{Cls: Local, Type: strings.ToUpper(parsed.Scheme)},
		Labels:    map[string]string{},
	}
	if user := parsed.User.Username(); user != "" {
		ask.Service = user + "@" + parsed.Hostname()
	}
	if at := strings.LastIndexByte(parsed.Path, '/'); at >= 0 {
		ask.Mechanism.Parameters = map[string]string{Name: parsed.Path[at+1:]}
	}
	for key, values := range parsed.Query() {
		ask.Labels[key] = strings.Join(values, ",")
	}
	return ask, nil
}
