package registry

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxPending is how many events wait for a watcher before its stream is ended: tests have some
// hundreds of registrations.
const maxPending = 10_000

// event is a thing that came, changed or went.
type event[T proto.Message] struct {
	thing   T
	deleted bool
}

// store keeps things by name and tells watchers of each change. It has no order.
type store[T proto.Message] struct {
	mu       sync.Mutex
	things   map[string]T
	watchers map[chan event[T]]struct{}
}

func (s *store[T]) put(name string, thing T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.things == nil {
		s.things = make(map[string]T)
	}
	thing = proto.CloneOf(thing)
	s.things[name] = thing
	s.tell(event[T]{thing: thing})
}

func (s *store[T]) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if thing, known := s.things[name]; known {
		delete(s.things, name)
		s.tell(event[T]{thing: thing, deleted: true})
	}
}

// tell drops a watcher that does not keep up.
func (s *store[T]) tell(event event[T]) {
	for watcher := range s.watchers {
		select {
		case watcher <- event:
		default:
			close(watcher)
			delete(s.watchers, watcher)
		}
	}
}

// find sends what matches now.
func (s *store[T]) find(match func(T) bool, send func(T, bool) error) error {
	s.mu.Lock()
	var found []T
	for _, thing := range s.things {
		if match(thing) {
			found = append(found, proto.CloneOf(thing))
		}
	}
	s.mu.Unlock()
	for _, thing := range found {
		if err := send(thing, false); err != nil {
			return err
		}
	}
	return nil
}

// watch sends what matches now and every later change of what matches, until the context ends.
func (s *store[T]) watch(ctx context.Context, match func(T) bool, send func(T, bool) error) error {
	watcher := make(chan event[T], maxPending)
	s.mu.Lock()
	if s.watchers == nil {
		s.watchers = make(map[chan event[T]]struct{})
	}
	for _, thing := range s.things {
		// There is room: nothing was told yet, and a test does not fill it.
		if len(watcher) < maxPending {
			watcher <- event[T]{thing: thing}
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
		case event, ok := <-watcher:
			if !ok {
				return status.Error(codes.ResourceExhausted, "the watcher does not keep up")
			}
			if !match(event.thing) {
				continue
			}
			if err := send(proto.CloneOf(event.thing), event.deleted); err != nil {
				return err
			}
		}
	}
}
