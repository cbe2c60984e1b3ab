// Package find is a registry client for people and tests: it prints what a registry has as lines
// of JSON, and registers or takes back an entry.
package find

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"interop/internal/gen/registry"
	"interop/internal/policy"
	"interop/internal/regchain"
	"interop/internal/start"
)

// asked is the flags.
type asked struct {
	kind       string
	like       string
	watch      bool
	register   bool
	unregister bool
	any        bool
	timeout    time.Duration
}

const usage = `usage: nsm-go find [flags] services|endpoints
Asks the registry at NSM_REGISTRY_URL, else NSM_CONNECT_TO.
`

func parse(args []string) (*asked, error) {
	var asked asked
	flags := flag.NewFlagSet("find", flag.ContinueOnError)
	flags.StringVar(&asked.like, "entry", "{}", "the entry, as protobuf JSON: what to find (what is set must fit), register or take back")
	flags.BoolVar(&asked.watch, "watch", false, "go on with what changes")
	flags.BoolVar(&asked.register, "register", false, "register the entry, print the answer")
	flags.BoolVar(&asked.unregister, "unregister", false, "take the entry back")
	flags.BoolVar(&asked.any, "any", false, "do not have policies look at answers")
	flags.DurationVar(&asked.timeout, "timeout", 5*time.Second, "of the call; of a watch only with -watch-for")
	until := flags.Duration("watch-for", 0, "end a watch after so long")
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if asked.kind = flags.Arg(0); asked.kind != "services" && asked.kind != "endpoints" {
		return nil, errors.New("want services or endpoints")
	}
	if asked.watch {
		asked.timeout = *until
	}
	return &asked, nil
}

// Run does what is asked.
func Run(ctx context.Context, args []string) error {
	asked, err := parse(args)
	if err != nil {
		return err
	}
	role, err := start.New(ctx, "find")
	if err != nil {
		return err
	}
	to := role.Env.URL("NSM_REGISTRY_URL", role.Env.String("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock"))
	options := regchain.ClientOptions{
		To:          to,
		Dial:        role.Dial(role.Env.Duration("NSM_DIAL_TIMEOUT", time.Second)),
		WithoutHeal: true,
	}
	if !asked.any {
		options.Policies = policy.MustLoad(policy.RegistryClient...)
	}
	if err := role.Env.Err(); err != nil {
		return err
	}
	if asked.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, asked.timeout)
		defer cancel()
	}
	if asked.kind == "services" {
		return ask(ctx, asked, regchain.NewServiceClient(ctx, options), &registry.NetworkService{})
	}
	return ask(ctx, asked, regchain.NewEndpointClient(ctx, options, &regchain.SendFDClient{}, &regchain.RecvFDClient{}), &registry.NetworkServiceEndpoint{})
}

func ask[E regchain.Entry](ctx context.Context, asked *asked, handler regchain.Handler[E], entry E) error {
	if err := protojson.Unmarshal([]byte(asked.like), entry); err != nil {
		return fmt.Errorf("-entry: %w", err)
	}
	switch {
	case asked.register:
		answer, err := handler.Register(ctx, entry)
		if err != nil {
			return err
		}
		return line(answer, false)
	case asked.unregister:
		return handler.Unregister(ctx, entry)
	}
	err := handler.Find(ctx, regchain.Query[E]{Like: entry, Watch: asked.watch}, func(found regchain.Found[E]) error {
		return line(found.Entry, found.Deleted)
	})
	if asked.watch && ctx.Err() != nil {
		return nil
	}
	return err
}

var printing sync.Mutex

// line prints an entry by the names of its fields.
func line(entry proto.Message, deleted bool) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(entry)
	if err != nil {
		return err
	}
	whole, err := json.Marshal(struct {
		Entry   json.RawMessage `json:"entry"`
		Deleted bool            `json:"deleted,omitempty"`
	}{text, deleted})
	if err != nil {
		return err
	}
	printing.Lock()
	defer printing.Unlock()
	_, err = fmt.Fprintln(os.Stdout, string(whole))
	return err
}
