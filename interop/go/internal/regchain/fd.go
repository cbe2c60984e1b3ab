package regchain

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	"interop/internal/fdconn"
)

// SendFDClient passes the descriptor of an endpoint's unix socket with its registration; the URL
// on the wire says only which file that is.
type SendFDClient struct{ Pass[Endpoint] }

// Register passes it.
func (s *SendFDClient) Register(ctx context.Context, entry Endpoint, next Handler[Endpoint]) (Endpoint, error) {
	entry = proto.CloneOf(entry)
	own := entry.Url
	if err := sendSocket(ctx, entry); err != nil {
		return nil, err
	}
	sent := entry.Url
	answer, err := next.Register(ctx, entry)
	if err == nil && answer.Url == sent {
		answer.Url = own
	}
	return answer, err
}

// Unregister passes it.
func (s *SendFDClient) Unregister(ctx context.Context, entry Endpoint, next Handler[Endpoint]) error {
	entry = proto.CloneOf(entry)
	if err := sendSocket(ctx, entry); err != nil {
		return err
	}
	return next.Unregister(ctx, entry)
}

func sendSocket(ctx context.Context, entry Endpoint) error {
	file := socketFile(entry.GetUrl())
	call := fdconn.CallFrom(ctx)
	if file == "" || call == nil {
		return nil
	}
	inode, err := call.SendFile(file)
	if err != nil {
		return err
	}
	entry.Url = inode.URL()
	return nil
}

// socketFile is the file of a `unix://` URL, else nothing.
func socketFile(text string) string {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "unix" {
		return ""
	}
	return parsed.Path
}

// RecvFDClient makes a socket that the registry passes with what it finds diallable. The file is
// kept, so that the URL of an endpoint stays the same from find to find: a hop closes connections
// at an endpoint whose URL changes.
type RecvFDClient struct {
	Pass[Endpoint]
	mutex sync.Mutex
	files map[string]socket
}

// socket is the file of one endpoint.
type socket struct {
	inode fdconn.Inode
	file  *os.File
}

// Find rewrites the URL of what is found.
func (r *RecvFDClient) Find(ctx context.Context, query Query[Endpoint], send func(Found[Endpoint]) error, next Handler[Endpoint]) error {
	call := fdconn.CallFrom(ctx)
	return next.Find(ctx, query, func(found Found[Endpoint]) error {
		inode, err := fdconn.ParseInode(found.Entry.GetUrl())
		if err != nil || call == nil || found.Deleted {
			return send(found)
		}
		name, err := r.file(ctx, call, found.Entry.GetName(), inode)
		if err != nil {
			slog.Warn("a socket that did not come", "name", found.Entry.GetName(), "url", found.Entry.GetUrl(), "err", err)
			return send(found)
		}
		found.Entry.Url = "unix://" + name
		return send(found)
	})
}

// file is the name of an endpoint's socket: the known one if that is the same file.
func (r *RecvFDClient) file(ctx context.Context, call *fdconn.Call, endpoint string, inode fdconn.Inode) (string, error) {
	if name := r.known(endpoint, inode); name != "" {
		return name, nil
	}
	file, err := call.Receive(ctx, inode)
	if err != nil {
		return "", err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.files == nil {
		r.files = map[string]socket{}
	}
	if old, ok := r.files[endpoint]; ok {
		_ = old.file.Close()
	}
	r.files[endpoint] = socket{inode, file}
	return file.Name(), nil
}

func (r *RecvFDClient) known(endpoint string, inode fdconn.Inode) string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if known, ok := r.files[endpoint]; ok && known.inode == inode {
		return known.file.Name()
	}
	return ""
}
