package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// promised and given are the lengths of a frame as announced and as sent.
const (
	promised = 4096
	given    = 100
)

// truncated begins requests and cuts the connection within a frame. The answer is that of an
// honest health check after all of them.
func truncated(ctx context.Context, a *attacker) (answer, error) {
	var sent answer
	for sent.Sent < max(a.count, 1) {
		if err := a.cut(ctx); err != nil {
			return sent, err
		}
		sent.Sent++
	}
	_, err := grpc_health_v1.NewHealthClient(a.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return sent, err
}

func (a *attacker) cut(ctx context.Context) error {
	network, address := "tcp", a.to.Host
	if a.to.Scheme == "unix" {
		network, address = "unix", a.to.Path
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	config := tlsconfig.MTLSClientConfig(a.source, a.source, tlsconfig.AuthorizeAny())
	config.NextProtos = []string{http2.NextProtoTLS}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	text, err := a.begun()
	if err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

// begun is a request up to the first bytes of its message.
func (a *attacker) begun() ([]byte, error) {
	pairs, err := badToken{}.metadata(a)
	if err != nil {
		return nil, err
	}
	var headers, text bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: "/networkservice.NetworkService/Request"},
		{Name: ":authority", Value: "localhost"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}
	for key, values := range pairs {
		fields = append(fields, hpack.HeaderField{Name: key, Value: values[0]})
	}
	for _, field := range fields {
		if err := encoder.WriteField(field); err != nil {
			return nil, err
		}
	}
	text.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&text, nil)
	if err := framer.WriteSettings(); err != nil {
		return nil, err
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true}); err != nil {
		return nil, err
	}
	if err := framer.WriteData(1, false, make([]byte, promised)); err != nil {
		return nil, err
	}
	return text.Bytes()[:text.Len()-promised+given], nil
}
