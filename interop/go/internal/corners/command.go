package corners

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"

	"interop/internal/identity"
)

// corner is one of them.
type corner struct {
	name string
	run  func(ctx context.Context, a *asker) error
}

// corners is all of them, in the order in which they are asked.
var corners = []corner{
	{"health of each service by its name", health},
	{"tokens: ES256, an audience in a list, a chain", tokens},
	{"the path is rewound to the caller, and all of it is there", rewound},
	{"segments beyond the last hop are cut off", trimmed},
	{"a segment of another hop is replaced", stale},
	{"a refresh is the same connection", refreshed},
	{"a reselect is served again", reselected},
	{"a close of what nobody knows is fine", closedUnknown},
	{"a close after the token has expired, by its owner", closedExpired},
	{"the first event is the state, also when there is none", initialState},
	{"monitors are told of updates, and of the end", events},
	{"selectors are runs of segments with wildcards", selectors},
	{"a descriptor that comes early", early},
	{"a descriptor that comes late", late},
	{"mechanisms are tried in the client's order", ordered},
	{"labels say where the client runs", labelled},
	{"what nobody knows goes through every hop", unknown},
	{"a megabyte goes through every hop", megabyte},
	{"many calls and streams at once on one connection", manyStreams},
	{"the payload of a service is IP unless it says", payload},
	{"the path of a registration comes back in the header", registryPath},
	{"endpoints whose time has come are not found", expired},
	{"a watch tells of what is deleted", watched},
}

// told is what is printed of a corner, a line each.
type told struct {
	Corner string `json:"corner"`
	OK     bool   `json:"ok"`
	Why    string `json:"why,omitempty"`
}

// Run is the command `corners`: a line for each corner.
func Run(ctx context.Context, args []string) error {
	a := &asker{name: "asker"}
	flags := flag.NewFlagSet("corners", flag.ContinueOnError)
	to := flags.String("to", "", "the manager: unix:///a/b")
	flags.StringVar(&a.service, "service", "echo", "a service that an endpoint offers")
	flags.StringVar(&a.node, "node", "", "the name of the manager's node")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if a.to, err = url.Parse(*to); err != nil || *to == "" {
		return errors.Join(err, fmt.Errorf("--to %q: want a URL", *to))
	}
	source, err := identity.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	a.source = source
	if a.conn, err = a.dial(life); err != nil {
		return err
	}
	defer func() { _ = a.conn.Close() }()
	out := json.NewEncoder(os.Stdout)
	for _, corner := range corners {
		line := told{Corner: corner.name, OK: true}
		if err := a.ask(ctx, corner); err != nil {
			line.OK, line.Why = false, err.Error()
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) ask(ctx context.Context, corner corner) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return corner.run(ctx, a)
}
