package hostile

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/health/grpc_health_v1"

	"interop/internal/fdconn"
	"interop/internal/mechanism"
)

func descriptorFile(ctx context.Context, a *attacker) (answer, error) {
	file, err := os.CreateTemp("", "hostile")
	if err != nil {
		return answer{}, err
	}
	defer func() { _, _ = file.Close(), os.Remove(file.Name()) }()
	return a.instead(ctx, file.Name())
}

func descriptorSocket(ctx context.Context, a *attacker) (answer, error) {
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = listener.Close() }()
	return a.instead(ctx, filepath.Join(dir, "s"))
}

// instead asks for an interface in a file that is no network namespace.
func (a *attacker) instead(ctx context.Context, file string) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	inode, err := fdconn.CallFrom(ctx).SendFile(file)
	if err != nil {
		return answer{}, err
	}
	return a.requestIn(ctx, inode.URL())
}

// descriptorAbsent lets the server wait: the answer comes when the call's time is over.
func descriptorAbsent(ctx context.Context, a *attacker) (answer, error) {
	ctx, err := a.honestly(ctx)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	return a.requestIn(ctx, fdconn.Inode{Device: 4, Number: 1}.URL())
}

func (a *attacker) requestIn(ctx context.Context, namespace string) (answer, error) {
	request := a.fresh()
	request.MechanismPreferences[0].Parameters[mechanism.InodeURL] = namespace
	return a.request(ctx, request)
}

// descriptorMany sends descriptors of as many different files, holds the connection for a while,
// and closes it.
func descriptorMany(ctx context.Context, a *attacker) (answer, error) {
	health := grpc_health_v1.NewHealthClient(a.conn)
	var sent answer
	for sent.Sent < a.count {
		batch := min(fdconn.MaxPerWrite, a.count-sent.Sent)
		call, descriptors := fdconn.WithCall(ctx)
		for range batch {
			if err := pass(descriptors); err != nil {
				return sent, err
			}
		}
		if _, err := health.Check(call, &grpc_health_v1.HealthCheckRequest{}); err != nil {
			return sent, err
		}
		sent.Sent += batch
	}
	select {
	case <-ctx.Done():
	case <-time.After(a.hold):
	}
	return sent, a.conn.Close()
}

func pass(call *fdconn.Call) error {
	fd, err := unix.MemfdCreate("hostile", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = call.SendFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err
}
