package elements

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
)

// sender passes a file's descriptor: an outgoing call, or the connection of an incoming one.
type sender interface {
	SendFile(name string) (fdconn.Inode, error)
}

// receiver waits for a descriptor.
type receiver interface {
	Await(ctx context.Context, inode fdconn.Inode) (*os.File, error)
}

// fileOf is the file of a mechanism's `file://` URL, else nothing.
func fileOf(mech *connection.Mechanism) string {
	parsed, err := url.Parse(mech.GetParameters()[mechanism.InodeURL])
	if err != nil || parsed.Scheme != "file" {
		return ""
	}
	return parsed.Path
}

// send passes a mechanism's file, and writes into the mechanism which it is. What was there comes
// back under what is there now.
func send(by sender, mech *connection.Mechanism, before map[string]string) error {
	name := fileOf(mech)
	if name == "" {
		return nil
	}
	inode, err := by.SendFile(name)
	if err != nil {
		return fmt.Errorf("sendfd: %w", err)
	}
	before[inode.URL()] = mech.Parameters[mechanism.InodeURL]
	mech.Parameters[mechanism.InodeURL] = inode.URL()
	return nil
}

func restore(mech *connection.Mechanism, before map[string]string) {
	if was, ok := before[mech.GetParameters()[mechanism.InodeURL]]; ok {
		mech.Parameters[mechanism.InodeURL] = was
	}
}

// SendFDClient passes the descriptors of the mechanisms that are asked for to the next hop.
type SendFDClient struct{}

// Request passes those of every preference and of the mechanism.
func (s *SendFDClient) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	call := fdconn.CallFrom(ctx)
	if call == nil {
		return next.Request(ctx, request)
	}
	request = proto.CloneOf(request)
	before := map[string]string{}
	for _, mech := range mechanismsOf(request) {
		if err := send(call, mech, before); err != nil {
			return nil, err
		}
	}
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	restore(conn.GetMechanism(), before)
	return conn, nil
}

// Close passes that of the mechanism.
func (s *SendFDClient) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	call := fdconn.CallFrom(ctx)
	if call == nil {
		return next.Close(ctx, conn)
	}
	sent := proto.CloneOf(conn)
	if err := send(call, sent.GetMechanism(), map[string]string{}); err != nil {
		return err
	}
	return next.Close(ctx, sent)
}

func mechanismsOf(request *networkservice.NetworkServiceRequest) []*connection.Mechanism {
	all := append([]*connection.Mechanism{}, request.GetMechanismPreferences()...)
	if mech := request.GetConnection().GetMechanism(); mech != nil {
		all = append(all, mech)
	}
	return all
}

// SendFDServer passes the descriptor of the answer's mechanism to the caller.
type SendFDServer struct{}

// Request passes it.
func (s *SendFDServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	if caller := fdconn.FromPeer(ctx); caller != nil {
		return conn, send(caller, conn.GetMechanism(), map[string]string{})
	}
	return conn, nil
}

// Close hands on.
func (s *SendFDServer) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}

// received is the files that came for one connection: each is asked for once, so that its name
// stays the same from request to request.
type received struct {
	byInode map[string]*os.File
	byFile  map[string]string
}

// take puts the name of a file that has come, or will, in the place of which it is.
func (r *received) take(ctx context.Context, from receiver, mech *connection.Mechanism) error {
	text := mech.GetParameters()[mechanism.InodeURL]
	parsed, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("recvfd: %w", err)
	}
	if text == "" || parsed.Scheme != "inode" {
		return nil
	}
	if r.byInode == nil {
		r.byInode, r.byFile = map[string]*os.File{}, map[string]string{}
	}
	file := r.byInode[text]
	if file == nil {
		inode, err := fdconn.ParseInode(text)
		if err != nil {
			return fmt.Errorf("recvfd: %w", err)
		}
		if file, err = from.Await(ctx, inode); err != nil {
			return fmt.Errorf("recvfd: waiting for %s: %w", text, err)
		}
		r.byInode[text] = file
	}
	mech.Parameters[mechanism.InodeURL] = "file://" + file.Name()
	r.byFile[mech.Parameters[mechanism.InodeURL]] = text
	return nil
}

// giveBack puts which file it is in the place of its name, and closes those not chosen.
func (r *received) giveBack(mech *connection.Mechanism) {
	inode, ok := r.byFile[mech.GetParameters()[mechanism.InodeURL]]
	if !ok {
		return
	}
	mech.Parameters[mechanism.InodeURL] = inode
	for other, file := range r.byInode {
		if other != inode {
			delete(r.byInode, other)
			_ = file.Close()
		}
	}
}

func (r *received) close() {
	for _, file := range r.byInode {
		_ = file.Close()
	}
	r.byInode, r.byFile = nil, nil
}

// RecvFDServer waits for the descriptors of the mechanisms that a caller asks for.
type RecvFDServer struct{}

// Request waits for all, and keeps the chosen one open.
func (r *RecvFDServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	caller := fdconn.FromPeer(ctx)
	if caller == nil {
		return next.Request(ctx, request)
	}
	files := chain.State[received](ctx, r)
	for _, mech := range mechanismsOf(request) {
		if err := files.take(ctx, caller, mech); err != nil {
			files.close()
			return nil, err
		}
	}
	conn, err := next.Request(ctx, request)
	if err != nil {
		files.close()
		return nil, err
	}
	files.giveBack(conn.GetMechanism())
	return conn, nil
}

// Close waits for the mechanism's, if it is not here yet, and closes it behind.
func (r *RecvFDServer) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	files := chain.State[received](ctx, r)
	defer files.close()
	if caller := fdconn.FromPeer(ctx); caller != nil {
		if err := files.take(ctx, caller, conn.GetMechanism()); err != nil {
			return errors.Join(err, next.Close(ctx, conn))
		}
	}
	return next.Close(ctx, conn)
}

// RecvFDClient waits for the descriptor of the answer's mechanism.
type RecvFDClient struct{}

// callReceiver is an outgoing call as a receiver.
type callReceiver struct{ *fdconn.Call }

// Await waits for it.
func (c callReceiver) Await(ctx context.Context, inode fdconn.Inode) (*os.File, error) {
	return c.Receive(ctx, inode)
}

// Request waits for it, and keeps it open.
func (r *RecvFDClient) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	call := fdconn.CallFrom(ctx)
	if call == nil {
		return conn, nil
	}
	files := chain.State[received](ctx, r)
	if err := files.take(ctx, callReceiver{call}, conn.GetMechanism()); err != nil {
		files.close()
		return nil, err
	}
	return conn, nil
}

// Close closes it behind.
func (r *RecvFDClient) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	defer chain.State[received](ctx, r).close()
	return next.Close(ctx, conn)
}
