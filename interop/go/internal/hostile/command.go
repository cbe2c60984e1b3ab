package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"interop/internal/gen/connection"
	"interop/internal/identity"
)

// report is what is printed of a case, a line each.
type report struct {
	Case string `json:"case"`
	// Call that carried it, where several can.
	Call string `json:"call"`
	// Code is gRPC's word for the answer: OK where the server did what was asked.
	Code    string   `json:"code"`
	Message string   `json:"message"`
	IDs     []string `json:"ids,omitempty"`
	Sent    int      `json:"sent,omitempty"`
	TookMS  int64    `json:"took_ms"`
}

// Run is the command `hostile CASE...`; "all-tokens" is every case about tokens that
// needs nothing of anybody else.
func Run(ctx context.Context, args []string) error {
	options, cases, err := parse(args)
	if err != nil {
		return err
	}
	source, err := identity.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	out := json.NewEncoder(os.Stdout)
	for _, name := range cases {
		report, err := try(ctx, source, options, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := out.Encode(report); err != nil {
			return err
		}
	}
	return nil
}

// try makes a connection of its own for each case: one may end it.
func try(ctx context.Context, source identity.Source, options options, name string) (report, error) {
	a, err := newAttacker(ctx, source, options)
	if err != nil {
		return report{}, err
	}
	defer func() { _ = a.conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, options.hold+options.wait+callTimeout)
	defer cancel()
	begun := time.Now()
	answer, err := a.run(ctx, name)
	answered, ok := status.FromError(err)
	if !ok {
		// It did not get as far as the server.
		return report{}, err
	}
	return report{
		Case: name, Call: options.call, Code: answered.Code().String(), Message: answered.Message(),
		IDs: answer.IDs, Sent: answer.Sent, TookMS: time.Since(begun).Milliseconds(),
	}, nil
}

// callTimeout is what a call may take beside the time that a case waits: a client's of the field.
const callTimeout = 15 * time.Second

func (a *attacker) run(ctx context.Context, name string) (answer, error) {
	if attack, known := attacks[name]; known {
		return attack.run(ctx, a)
	}
	ctx, err := a.with(ctx, badTokens[name])
	if err != nil {
		return answer{}, err
	}
	return a.make(ctx)
}

func parse(args []string) (options, []string, error) {
	var options options
	flags := flag.NewFlagSet("hostile", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: nsm-go hostile --to URL [flags] CASE...\ncases:", strings.Join(names(), " "))
		flags.PrintDefaults()
	}
	to := flags.String("to", "", "who is attacked: unix:///a/b or tcp://host:port")
	flags.StringVar(&options.call, "call", "request", "which call carries a bad token: request, close, monitor, register, service, find")
	flags.StringVar(&options.service, "service", "echo", "the network service that is asked for")
	flags.StringVar(&options.name, "name", "mallory", "the attacker's hop name, or the name it registers")
	flags.StringVar(&options.victim, "victim", "spiffe://nsm.lab/victim", "the SPIFFE ID of somebody else")
	flags.StringVar(&options.token, "token", "", "file with somebody else's token")
	flags.DurationVar(&options.skew, "skew", 10*time.Minute, "how far a wrong clock is off")
	flags.IntVar(&options.count, "count", 10_000, "how many descriptors, segments, connections")
	flags.DurationVar(&options.hold, "hold", 0, "how long the connection stays after the last descriptor")
	flags.DurationVar(&options.wait, "wait", 2*time.Second, "how long a monitor listens, and a call waits whose descriptor does not come")
	id := flags.String("id", "", "id of somebody else's connection")
	hop := flags.String("hop", "nsc", "name of its client")
	whole := flags.String("connection", "", "file with somebody else's whole connection, as protobuf JSON")
	if err := flags.Parse(args); err != nil {
		return options, nil, err
	}
	var err error
	if options.theirs, err = theirs(*whole, *id, *hop); err != nil {
		return options, nil, err
	}
	if options.to, err = url.Parse(*to); err != nil || *to == "" {
		return options, nil, errors.Join(err, fmt.Errorf("--to %q: want a URL", *to))
	}
	cases, err := expand(flags.Args())
	return options, cases, err
}

func expand(asked []string) ([]string, error) {
	var cases []string
	for _, name := range asked {
		_, attack := attacks[name]
		_, token := badTokens[name]
		switch {
		case name == "all-tokens":
			for _, name := range slices.Sorted(maps.Keys(badTokens)) {
				if name != replayed {
					cases = append(cases, name)
				}
			}
		case attack || token:
			cases = append(cases, name)
		default:
			return nil, fmt.Errorf("case %q: there is %s", name, strings.Join(names(), " "))
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no case: there is %s", strings.Join(names(), " "))
	}
	return cases, nil
}

func names() []string {
	all := append(slices.Collect(maps.Keys(attacks)), slices.Collect(maps.Keys(badTokens))...)
	slices.Sort(all)
	return append(all, "all-tokens")
}

func theirs(file, id, hop string) (*connection.Connection, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		conn := &connection.Connection{}
		return conn, protojson.Unmarshal(text, conn)
	}
	if id == "" {
		return nil, nil
	}
	return &connection.Connection{
		Id:   id,
		Path: &connection.Path{PathSegments: []*connection.PathSegment{{Name: hop, Id: id}}},
	}, nil
}
