package fdconn

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Inode says which file a descriptor is of.
type Inode struct {
	// Device is the number of the file system.
	Device uint64
	// Number is the file's number in it.
	Number uint64
}

// URL is the form that goes over the wire.
func (i Inode) URL() string { return fmt.Sprintf("inode://%d/%d", i.Device, i.Number) }

// ParseInode reads the form that goes over the wire.
func ParseInode(text string) (Inode, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return Inode{}, err
	}
	if parsed.Scheme != "inode" {
		return Inode{}, fmt.Errorf("inode URL %q: the scheme is not inode", text)
	}
	device, err := strconv.ParseUint(parsed.Host, 10, 64)
	if err != nil {
		return Inode{}, fmt.Errorf("inode URL %q: device: %w", text, err)
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(parsed.Path, "/"), 10, 64)
	if err != nil {
		return Inode{}, fmt.Errorf("inode URL %q: inode: %w", text, err)
	}
	return Inode{Device: device, Number: number}, nil
}

func inodeOf(fd int) (Inode, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return Inode{}, os.NewSyscallError("fstat", err)
	}
	return Inode{Device: stat.Dev, Number: stat.Ino}, nil
}

// Open opens a file so that nothing can be done with it but passing it on, and says which it is.
func Open(name string) (*os.File, Inode, error) {
	file, err := os.OpenFile(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Inode{}, err
	}
	inode, err := inodeOf(int(file.Fd()))
	if err != nil {
		_ = file.Close()
		return nil, Inode{}, err
	}
	return file, inode, nil
}
