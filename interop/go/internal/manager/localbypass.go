package manager

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	"interop/internal/regchain"
)

// LocalBypass registers endpoints of this node under the manager's URL, and puts their own back
// into what is found. An endpoint at the manager's URL that it does not know, as after a restart,
// is hidden.
type LocalBypass struct {
	// Own is the manager's public URL.
	Own string

	mu   sync.Mutex
	urls map[string]string
}

func (l *LocalBypass) known(name string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, known := l.urls[name]
	return own, known
}

func (l *LocalBypass) keep(name, own string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.urls == nil {
		l.urls = make(map[string]string)
	}
	l.urls[name] = own
}

func (l *LocalBypass) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.urls, name)
}

// Register keeps the endpoint's URL.
func (l *LocalBypass) Register(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) (regchain.Endpoint, error) {
	name, own := entry.GetName(), entry.GetUrl()
	if parsed, err := url.Parse(own); err != nil || parsed.String() == "" {
		return nil, fmt.Errorf("cannot register NSE with passed URL: %s", own)
	}
	_, before := l.known(name)
	l.keep(name, own)
	entry.Url = l.Own
	answer, err := next.Register(ctx, entry)
	if err != nil {
		if !before {
			l.forget(name)
		}
		return nil, err
	}
	answer.Url = own
	l.keep(answer.GetName(), own)
	return answer, nil
}

// Find puts the URLs back.
func (l *LocalBypass) Find(ctx context.Context, query regchain.Query[regchain.Endpoint], send func(regchain.Found[regchain.Endpoint]) error, next regchain.Handler[regchain.Endpoint]) error {
	return next.Find(ctx, query, func(found regchain.Found[regchain.Endpoint]) error {
		if own, known := l.known(found.Entry.GetName()); known {
			found.Entry.Url = own
		}
		if found.Entry.GetUrl() == l.Own && !found.Deleted {
			return nil
		}
		return send(found)
	})
}

// Unregister forgets the URL. An endpoint that is not known here is not handed on.
func (l *LocalBypass) Unregister(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) error {
	if _, known := l.known(entry.GetName()); !known {
		return nil
	}
	entry.Url = l.Own
	if err := next.Unregister(ctx, entry); err != nil {
		return err
	}
	l.forget(entry.GetName())
	return nil
}
