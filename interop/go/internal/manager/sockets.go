package manager

import (
	"context"
	"net/url"
	"os"
	"slices"

	"google.golang.org/protobuf/proto"

	"interop/internal/fdconn"
	"interop/internal/regchain"
)

// RecvSocket takes the descriptor of a registering endpoint's socket, so that it can be dialled
// although its file is not in sight: the URL becomes `unix:///proc/<pid>/fd/<n>`. It stands behind
// begin.
type RecvSocket struct {
	regchain.Pass[regchain.Endpoint]
	// Forwarder is the service whose endpoints keep their sockets when a registration fails.
	Forwarder string
}

// socket is what was received of an endpoint, and the URL that announced it.
type socket struct {
	file *os.File
	url  string
}

func (s *socket) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	*s = socket{}
}

// local is how this process, and who gets the descriptor from it, dials the socket.
func (s *socket) local() string { return "unix://" + s.file.Name() }

// Register receives it and answers with the URL that was asked with.
func (r *RecvSocket) Register(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) (regchain.Endpoint, error) {
	held := regchain.State[socket, regchain.Endpoint](ctx, r)
	entry = proto.CloneOf(entry)
	if err := receive(ctx, held, entry); err != nil {
		held.close()
		return nil, err
	}
	answer, err := next.Register(ctx, entry)
	if err != nil {
		if !slices.Contains(entry.GetNetworkServiceNames(), r.Forwarder) {
			held.close()
		}
		return nil, err
	}
	answer = proto.CloneOf(answer)
	if held.file != nil && answer.GetUrl() == held.local() {
		answer.Url = held.url
	}
	return answer, nil
}

// Unregister lets go of it.
func (r *RecvSocket) Unregister(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) error {
	held := regchain.State[socket, regchain.Endpoint](ctx, r)
	defer held.close()
	entry = proto.CloneOf(entry)
	if err := receive(ctx, held, entry); err != nil {
		return err
	}
	return next.Unregister(ctx, entry)
}

// receive waits for the descriptor until the call's time is over.
func receive(ctx context.Context, held *socket, entry regchain.Endpoint) error {
	conn := fdconn.FromPeer(ctx)
	inode, err := fdconn.ParseInode(entry.GetUrl())
	if conn == nil || err != nil {
		// Nothing to receive: TCP, or an URL that says where to dial.
		return nil
	}
	if held.file == nil || held.url != entry.GetUrl() {
		file, err := conn.Await(ctx, inode)
		if err != nil {
			return err
		}
		held.close()
		*held = socket{file, entry.GetUrl()}
	}
	entry.Url = held.local()
	return nil
}

// SendSocket passes the descriptor of a found endpoint's socket to who asks over a unix socket.
type SendSocket struct {
	regchain.Pass[regchain.Endpoint]
}

// Find passes them; where that cannot be done the stream ends with the error.
func (SendSocket) Find(ctx context.Context, query regchain.Query[regchain.Endpoint], send func(regchain.Found[regchain.Endpoint]) error, next regchain.Handler[regchain.Endpoint]) error {
	conn := fdconn.FromPeer(ctx)
	if conn == nil {
		return next.Find(ctx, query, send)
	}
	return next.Find(ctx, query, func(found regchain.Found[regchain.Endpoint]) error {
		to, err := url.Parse(found.Entry.GetUrl())
		if err != nil {
			return err
		}
		if to.Scheme == "unix" {
			inode, err := conn.SendFile(to.Path)
			if err != nil {
				return err
			}
			found.Entry.Url = inode.URL()
		}
		return send(found)
	})
}
