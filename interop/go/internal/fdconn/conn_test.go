package fdconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patience is how long a descriptor may take on a busy machine.
const patience = 10 * time.Second

// ends is the two ends of a unix connection.
func ends(t *testing.T) (near, far *Conn) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	dialled, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = Wrap(dialled).(*Conn), Wrap(accepted).(*Conn)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func files(t *testing.T, count int) []string {
	t.Helper()
	var names []string
	for at := range count {
		name := filepath.Join(t.TempDir(), fmt.Sprint(at))
		if err := os.WriteFile(name, fmt.Append(nil, at), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// send queues the files, then writes; it returns which files they are.
func send(t *testing.T, by *Conn, names []string) []Inode {
	t.Helper()
	var inodes []Inode
	for _, name := range names {
		inode, err := by.SendFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inodes = append(inodes, inode)
	}
	return inodes
}

func TestTransfer(t *testing.T) {
	for name, row := range map[string]struct {
		files  int
		writes []int // lengths
		held   []int // how many have come after each
	}{
		"one with the first byte":              {1, []int{100}, []int{1}},
		"as many as bytes":                     {3, []int{3}, []int{3}},
		"more than bytes wait":                 {3, []int{2, 2}, []int{2, 3}},
		"no more than the limit with a write":  {MaxPerWrite + 1, []int{200, 1}, []int{MaxPerWrite, MaxPerWrite + 1}},
		"none":                                 {0, []int{5, 5}, []int{0, 0}},
		"an empty write takes none with it":    {1, []int{0, 1}, []int{0, 1}},
		"twice the limit, in a write for each": {2 * MaxPerWrite, []int{MaxPerWrite, 300}, []int{MaxPerWrite, 2 * MaxPerWrite}},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := ends(t)
			names := files(t, row.files)
			inodes := send(t, near, names)
			for at, length := range row.writes {
				n, err := near.Write(make([]byte, length))
				if err != nil || n != length {
					t.Fatalf("write of %d: %d, %v", length, n, err)
				}
				if _, err := io.ReadFull(far, make([]byte, length)); err != nil {
					t.Fatal(err)
				}
				if far.Held() != row.held[at] {
					t.Errorf("after write %d: %d descriptors have come, want %d", at, far.Held(), row.held[at])
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for at, inode := range inodes {
				file, err := far.Await(ctx, inode)
				if err != nil {
					t.Fatalf("file %d: %v", at, err)
				}
				// It only names the file: reading takes another look at it.
				text, err := os.ReadFile(file.Name())
				if err != nil || string(text) != fmt.Sprint(at) {
					t.Errorf("file %d: %q, %v", at, text, err)
				}
				_ = file.Close()
			}
		})
	}
}

func TestLateAndEarly(t *testing.T) {
	near, far := ends(t)
	name := files(t, 1)
	_, inode, err := Open(name[0])
	if err != nil {
		t.Fatal(err)
	}
	open := descriptors(t)
	// Two who wait before it comes, and one who asks after.
	before := []<-chan *os.File{far.Receive(inode), far.Receive(inode)}
	send(t, near, name)
	send(t, near, name) // the same file again: kept once
	if _, err := near.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	seen := map[uintptr]bool{}
	for _, waiter := range append(before, far.Receive(inode)) {
		file := <-waiter
		if file == nil {
			t.Fatal("no file")
		}
		t.Cleanup(func() { _ = file.Close() })
		seen[file.Fd()] = true
	}
	if len(seen) != 3 || far.Held() != 1 {
		t.Errorf("%d files of their own, %d held", len(seen), far.Held())
	}
	// Theirs, and the one that is held: the second that came is not open any more.
	if now := descriptors(t); now != open+4 {
		t.Errorf("%d descriptors more, want 4", now-open)
	}
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A read that fails tells of no bytes: layers above take a negative count for a bug.
func TestReset(t *testing.T) {
	near, far := ends(t)
	if _, err := far.Write([]byte("never read")); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestClosed(t *testing.T) {
	near, far := ends(t)
	waiter := far.Receive(Inode{1, 2})
	name := files(t, 1)
	send(t, near, name)
	_ = far.Close()
	_ = near.Close()
	if file, ok := <-waiter; ok {
		t.Errorf("got %v", file)
	}
	if _, ok := <-far.Receive(Inode{1, 2}); ok {
		t.Error("got a file of a closed connection")
	}
	if _, err := near.SendFile(name[0]); err == nil {
		t.Error("sent on a closed connection")
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestParseInode(t *testing.T) {
	for text, want := range map[string]string{
		"inode://4/4026531840":          "inode://4/4026531840",
		"inode://0/0":                   "inode://0/0",
		"inode://4":                     "",
		"inode://4/x":                   "",
		"inode://-4/1":                  "",
		"inode://4/1/2":                 "",
		"file://4/1":                    "",
		"inode://99999999999999999999/": "",
		"":                              "",
	} {
		inode, err := ParseInode(text)
		have := inode.URL()
		if err != nil {
			have = ""
		}
		if have != want {
			t.Errorf("%q: have %q (%v)", text, have, err)
		}
	}
}
