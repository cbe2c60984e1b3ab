// Package identity is who this process is: its X.509 SVID from a Workload API socket, mutual TLS
// with it, and the tokens that it signs.
package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/credentials"

	"interop/internal/fdconn"
)

// startTimeout is how long a process waits for its first SVID: an agent that has no entry for it
// yet refuses, and the source asks again.
const startTimeout = time.Minute

// Source gives the newest SVID and the trust bundles.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// Open waits for the first SVID from the Workload API that SPIFFE_ENDPOINT_SOCKET names.
func Open(ctx context.Context) (*workloadapi.X509Source, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return nil, fmt.Errorf("get an SVID from the Workload API: %w", err)
	}
	return source, nil
}

// Server is mutual TLS as a server does it. Anybody whom the bundles vouch for may connect;
// descriptors pass under it.
func Server(source Source) credentials.TransportCredentials {
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeAny())
	config.MinVersion = tls.VersionTLS12
	return fdconn.Under(credentials.NewTLS(config))
}

// Client is mutual TLS as a client does it, likewise.
func Client(source Source) credentials.TransportCredentials {
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeAny())
	config.MinVersion = tls.VersionTLS12
	return fdconn.Under(credentials.NewTLS(config))
}
