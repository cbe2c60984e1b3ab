// Package fdconn passes file descriptors over a unix socket under the TLS layer, as the peers of
// the Go implementation do: a descriptor rides on one byte of ciphertext, the message above says
// only which file it is (`inode://<device>/<inode>`), and either may arrive first.
package fdconn

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxPerWrite is how many descriptors go with one write at most, and for how many a read leaves
// room: the peers' limit. More wait for the next write.
const MaxPerWrite = 64

// ErrClosed is what a sender or a waiter gets when the connection is closed.
var ErrClosed = errors.New("fdconn: the connection is closed")

// unixConn is what a connection needs so that descriptors can go with its bytes.
type unixConn interface {
	net.Conn
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
}

// Conn is a unix connection that carries descriptors. It is its own remote address: that is how
// it can be found from a gRPC peer, which shows no more of a connection than that.
type Conn struct {
	unixConn

	writing sync.Mutex // one Write at a time, so that descriptors stay in order
	mutex   sync.Mutex // all below
	closed  bool
	queue   []int
	table   map[Inode]int
	waiters map[Inode][]chan *os.File
}

// Wrap makes a connection carry descriptors if it is one of a unix socket, else leaves it.
func Wrap(conn net.Conn) net.Conn {
	if _, done := conn.(*Conn); done {
		return conn
	}
	plain, ok := conn.(unixConn)
	if !ok {
		return conn
	}
	return &Conn{unixConn: plain, table: map[Inode]int{}, waiters: map[Inode][]chan *os.File{}}
}

// RemoteAddr is the connection itself.
func (c *Conn) RemoteAddr() net.Addr { return c }

// Network is the remote address's.
func (c *Conn) Network() string { return c.unixConn.RemoteAddr().Network() }

// String is the remote address's.
func (c *Conn) String() string { return c.unixConn.RemoteAddr().String() }

// Send queues a descriptor; it leaves with the next write. The caller keeps its own.
func (c *Conn) Send(fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		_ = unix.Close(dup)
		return ErrClosed
	}
	c.queue = append(c.queue, dup)
	return nil
}

// Receive returns a channel that gets a file of the caller's own once the descriptor of this
// file has arrived; the channel is closed without one when the connection is closed.
func (c *Conn) Receive(inode Inode) <-chan *os.File {
	waiter := make(chan *os.File, 1)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		close(waiter)
		return waiter
	}
	if fd, here := c.table[inode]; here {
		deliver(waiter, fd)
		return waiter
	}
	c.waiters[inode] = append(c.waiters[inode], waiter)
	return waiter
}

// Held is how many descriptors have arrived and are kept for who may ask for them.
func (c *Conn) Held() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.table)
}

// Write sends the bytes, the first of them with the descriptors that wait.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	sent := 0
	for _, fd := range c.take(min(MaxPerWrite, len(b))) {
		n, _, err := c.unixConn.WriteMsgUnix(b[sent:sent+1], unix.UnixRights(fd), nil)
		_ = unix.Close(fd)
		if err != nil {
			return sent, err
		}
		sent += n
	}
	if sent == len(b) && sent > 0 {
		return sent, nil
	}
	n, err := c.unixConn.Write(b[sent:])
	return sent + n, err
}

func (c *Conn) take(limit int) []int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	limit = min(limit, len(c.queue))
	taken := c.queue[:limit:limit]
	c.queue = c.queue[limit:]
	return taken
}

// Read receives bytes and whatever descriptors come with them.
func (c *Conn) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*MaxPerWrite))
	n, oobn, _, _, err := c.unixConn.ReadMsgUnix(b, oob)
	if oobn > 0 {
		c.arrived(oob[:oobn])
	}
	if err != nil {
		// On an error the count is -1, which readers above take for a bug.
		return 0, err
	}
	return n, nil
}

func (c *Conn) arrived(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for at := range messages {
		fds, err := unix.ParseUnixRights(&messages[at])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			c.keep(fd)
		}
	}
}

// keep files a descriptor by what it is; a second one of the same file is closed at once.
func (c *Conn) keep(fd int) {
	inode, err := inodeOf(fd)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if _, known := c.table[inode]; err != nil || known || c.closed {
		_ = unix.Close(fd)
		return
	}
	c.table[inode] = fd
	for _, waiter := range c.waiters[inode] {
		deliver(waiter, fd)
	}
	delete(c.waiters, inode)
}

func deliver(waiter chan *os.File, fd int) {
	if dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		waiter <- os.NewFile(uintptr(dup), procName(dup))
	}
	close(waiter)
}

// procName is the name under which this process, and who may look into it, can open the file.
func procName(fd int) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)
}

// Close closes the connection, what has arrived and what has not left.
func (c *Conn) Close() error {
	err := c.unixConn.Close()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.closed = true
	for _, fd := range c.queue {
		_ = unix.Close(fd)
	}
	for _, fd := range c.table {
		_ = unix.Close(fd)
	}
	for _, waiters := range c.waiters {
		for _, waiter := range waiters {
			close(waiter)
		}
	}
	c.queue, c.table, c.waiters = nil, map[Inode]int{}, map[Inode][]chan *os.File{}
	return err
}
