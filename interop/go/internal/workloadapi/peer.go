package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// caller is the process at the other end of a connection, as it was when it connected.
type caller struct {
	facts Facts
	// why says why facts are not to be had; nothing is issued then.
	why  error
	conn net.Conn
}

// AuthType names this way of knowing the caller.
func (*caller) AuthType() string { return "peer-credentials" }

// attest is a transport without TLS that looks at who connects, once: a stream that begins later
// on the same connection has the same caller.
type attest struct{}

func (attest) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	who := &caller{conn: conn}
	who.facts, who.why = factsOf(conn)
	return conn, who, nil
}

func (attest) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("only a server attests")
}

func (attest) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer-credentials"}
}

func (a attest) Clone() credentials.TransportCredentials { return a }

func (attest) OverrideServerName(string) error { return nil }

func factsOf(conn net.Conn) (Facts, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return Facts{}, fmt.Errorf("a connection of type %T has no peer credentials", conn)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return Facts{}, err
	}
	var credentials *unix.Ucred
	var failed error
	err = control.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return Facts{}, fmt.Errorf("peer credentials: %w", err)
	}
	if credentials.Pid == 0 {
		return Facts{}, errors.New("the caller's process is not visible from this pid namespace")
	}
	return factsOfProcess(credentials.Pid, credentials.Uid)
}

func factsOfProcess(pid int32, uid uint32) (Facts, error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return Facts{}, err
	}
	facts := Facts{UID: uid, Exe: exe, Pid: pid}
	for name, into := range map[string]*uint64{"net": &facts.Netns, "pid": &facts.Pidns} {
		var stat unix.Stat_t
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, name)
		if err := unix.Stat(path, &stat); err != nil {
			return Facts{}, fmt.Errorf("stat %s: %w", path, err)
		}
		*into = stat.Ino
	}
	return facts, nil
}
