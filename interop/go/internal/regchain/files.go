package regchain

import (
	"context"
	"os"
	"sync"
)

// Files is the descriptors that came with what was found.
type Files struct {
	mutex sync.Mutex
	files []*os.File
}

type filesKey struct{}

// Keep is a context whose finds leave their descriptors open, in these files, until they are
// closed.
func Keep(ctx context.Context) (context.Context, *Files) {
	files := &Files{}
	return context.WithValue(ctx, filesKey{}, files), files
}

func keeperOf(ctx context.Context) *Files {
	files, _ := ctx.Value(filesKey{}).(*Files)
	return files
}

func (f *Files) add(file *os.File) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.files = append(f.files, file)
}

// Close closes all of them; a URL of one points nowhere then.
func (f *Files) Close() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, file := range f.files {
		_ = file.Close()
	}
	f.files = nil
}
