package fdconn

import (
	"context"
	"errors"
	"os"

	"google.golang.org/grpc/peer"
)

var errNoDescriptors = errors.New("fdconn: the connection is not of a unix socket: it carries no descriptors")

// FromPeer is the connection on which a call came in, or nil if that carries no descriptors.
func FromPeer(ctx context.Context) *Conn {
	remote, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	conn, _ := remote.Addr.(*Conn)
	return conn
}

// SendFile opens a file and passes its descriptor; it returns which file it is.
func (c *Conn) SendFile(name string) (Inode, error) {
	file, inode, err := Open(name)
	if err != nil {
		return Inode{}, err
	}
	defer func() { _ = file.Close() }()
	return inode, c.Send(int(file.Fd()))
}

// Await waits until the file has come, or the context ends.
func (c *Conn) Await(ctx context.Context, inode Inode) (*os.File, error) { return await(ctx, c, inode) }

func await(ctx context.Context, conn *Conn, inode Inode) (*os.File, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case file, ok := <-conn.Receive(inode):
		if !ok {
			return nil, ErrClosed
		}
		return file, nil
	}
}
