package registry

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"interop/internal/regchain"
)

// maxPending is how many events wait for a watcher before its stream is ended: tests have some
// hundreds of registrations.
const maxPending = 10_000

// store keeps entries by name and tells watchers of each change. It has no order.
type store[E regchain.Entry] struct {
	mu       sync.Mutex
	entries  map[string]E
	watchers map[chan regchain.Found[E]]struct{}
}

func (s *store[E]) put(name string, entry E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = make(map[string]E)
	}
	entry = proto.CloneOf(entry)
	s.entries[name] = entry
	s.tell(regchain.Found[E]{Entry: entry})
}

func (s *store[E]) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry, known := s.entries[name]; known {
		delete(s.entries, name)
		s.tell(regchain.Found[E]{Entry: entry, Deleted: true})
	}
}

// tell drops a watcher that does not keep up.
func (s *store[E]) tell(found regchain.Found[E]) {
	for watcher := range s.watchers {
		select {
		case watcher <- found:
		default:
			close(watcher)
			delete(s.watchers, watcher)
		}
	}
}

// find sends what matches now.
func (s *store[E]) find(match func(E) bool, send func(regchain.Found[E]) error) error {
	s.mu.Lock()
	var all []E
	for _, entry := range s.entries {
		if match(entry) {
			all = append(all, proto.CloneOf(entry))
		}
	}
	s.mu.Unlock()
	for _, entry := range all {
		if err := send(regchain.Found[E]{Entry: entry}); err != nil {
			return err
		}
	}
	return nil
}

// watch sends what matches now and every later change of what matches, until the context ends.
func (s *store[E]) watch(ctx context.Context, match func(E) bool, send func(regchain.Found[E]) error) error {
	watcher := make(chan regchain.Found[E], maxPending)
	s.mu.Lock()
	if s.watchers == nil {
		s.watchers = make(map[chan regchain.Found[E]]struct{})
	}
	for _, entry := range s.entries {
		// There is room: noentry was told yet, and a test does not fill it.
		if len(watcher) < maxPending {
			watcher <- regchain.Found[E]{Entry: entry}
		}
	}
	s.watchers[watcher] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, watcher)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case found, ok := <-watcher:
			if !ok {
				return status.Error(codes.ResourceExhausted, "the watcher does not keep up")
			}
			if !match(found.Entry) {
				continue
			}
			found.Entry = proto.CloneOf(found.Entry)
			if err := send(found); err != nil {
				return err
			}
		}
	}
}
