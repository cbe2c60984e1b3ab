package registry

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/mechanism"
	"interop/internal/regchain"
)

// Memory is the end of a list: it keeps entries.
type Memory[E regchain.Entry] struct {
	// Match tells whether an entry is what a query is for.
	Match func(like, is E) bool
	store store[E]
}

// Register stores the entry.
func (m *Memory[E]) Register(ctx context.Context, entry E, next regchain.Handler[E]) (E, error) {
	answer, err := next.Register(ctx, entry)
	if err == nil {
		m.store.put(answer.GetName(), answer)
	}
	return answer, err
}

// Find sends what matches, and with a watch each later change of it. An expired entry is for the
// finder to look at.
func (m *Memory[E]) Find(ctx context.Context, query regchain.Query[E], send func(regchain.Found[E]) error, next regchain.Handler[E]) error {
	match := func(is E) bool { return m.Match(query.Like, is) }
	if query.Watch {
		if err := next.Find(ctx, query, send); err != nil {
			return err
		}
		return m.store.watch(ctx, match, send)
	}
	if err := m.store.find(match, send); err != nil {
		return err
	}
	return next.Find(ctx, query, send)
}

// Unregister takes the entry out.
func (m *Memory[E]) Unregister(ctx context.Context, entry E, next regchain.Handler[E]) error {
	m.store.remove(entry.GetName())
	return next.Unregister(ctx, entry)
}

// SetPayload gives a service without a payload IP.
type SetPayload struct {
	regchain.Pass[regchain.Service]
}

// Register does so.
func (SetPayload) Register(ctx context.Context, entry regchain.Service, next regchain.Handler[regchain.Service]) (regchain.Service, error) {
	if entry.GetPayload() == "" {
		entry.Payload = mechanism.PayloadIP
	}
	return next.Register(ctx, entry)
}

// SetRegistrationTime writes when an endpoint was registered first. It stands behind begin.
type SetRegistrationTime struct {
	regchain.Pass[regchain.Endpoint]
}

type first struct{ at *timestamppb.Timestamp }

// Register keeps the first time.
func (s *SetRegistrationTime) Register(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) (regchain.Endpoint, error) {
	known := regchain.State[first, regchain.Endpoint](ctx, s)
	if known.at == nil {
		known.at = entry.GetInitialRegistrationTime()
	}
	if known.at == nil {
		known.at = timestamppb.Now()
	}
	entry.InitialRegistrationTime = known.at
	return next.Register(ctx, entry)
}

// Unregister forgets it.
func (s *SetRegistrationTime) Unregister(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) error {
	regchain.State[first, regchain.Endpoint](ctx, s).at = nil
	return next.Unregister(ctx, entry)
}
