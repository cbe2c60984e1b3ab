package fdconn

import (
	"context"
	"os"
	"sync"

	"google.golang.org/grpc/peer"
)

// Call is one outgoing call's way to the connection that it is made on, which is known only once
// gRPC has picked it: what is to be sent waits until then.
type Call struct {
	mutex sync.Mutex
	conn  *Conn
	peer  *peer.Peer
	files []*os.File
	bound chan struct{}
}

type callKey struct{}

// WithCall begins a new outgoing call. [Bind] of its context ties it to a connection.
func WithCall(ctx context.Context) (context.Context, *Call) {
	call := &Call{bound: make(chan struct{})}
	return context.WithValue(ctx, callKey{}, call), call
}

// CallFrom is the outgoing call of this context, or nil.
func CallFrom(ctx context.Context) *Call {
	call, _ := ctx.Value(callKey{}).(*Call)
	return call
}

// Bind tells the context's call which connection carries it: for per-RPC credentials, whose
// context shows the peer. The first connection counts.
func Bind(ctx context.Context) {
	call := CallFrom(ctx)
	if call == nil {
		return
	}
	call.mutex.Lock()
	defer call.mutex.Unlock()
	if call.peer != nil {
		return
	}
	remote, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	call.peer = remote
	call.conn, _ = remote.Addr.(*Conn)
	for _, file := range call.files {
		if call.conn != nil {
			_ = call.conn.Send(int(file.Fd()))
		}
		_ = file.Close()
	}
	call.files = nil
	close(call.bound)
}

// Peer is who answers the call, nil before it is made.
func (c *Call) Peer() *peer.Peer {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.peer
}

// SendFile opens a file and passes its descriptor with the call; it returns which file it is.
func (c *Call) SendFile(name string) (Inode, error) {
	file, inode, err := Open(name)
	if err != nil {
		return Inode{}, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.peer == nil {
		c.files = append(c.files, file)
		return inode, nil
	}
	defer func() { _ = file.Close() }()
	if c.conn == nil {
		return inode, nil
	}
	return inode, c.conn.Send(int(file.Fd()))
}

// Receive waits until the file has come over the call's connection, or the context ends.
func (c *Call) Receive(ctx context.Context, inode Inode) (*os.File, error) {
	select {
	case <-c.bound:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.conn == nil {
		return nil, errNoDescriptors
	}
	return await(ctx, c.conn, inode)
}
