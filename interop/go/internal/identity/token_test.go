package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"interop/internal/testid"
)

// claims is a token's middle part as it is on the wire.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]any{}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func TestGenerator(t *testing.T) {
	domain := testid.New(t, "test")
	for name, row := range map[string]struct {
		own, peer, life time.Duration // the peer's 0: no peer
		exp, expires    time.Duration
	}{
		"the life counts":                          {time.Hour, time.Hour, time.Minute, time.Minute, time.Minute},
		"the own certificate ends first":           {time.Minute, time.Hour, time.Hour, time.Minute, time.Minute},
		"the peer's cuts the expiry, not the exp":  {time.Hour, time.Minute, 10 * time.Minute, 10 * time.Minute, time.Minute},
		"without a peer there is no audience":      {time.Hour, 0, time.Minute, time.Minute, time.Minute},
		"the own ends before the peer's, both cut": {time.Minute, 30 * time.Second, time.Hour, time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var info credentials.AuthInfo
			audience := any(nil)
			if row.peer > 0 {
				peer := domain.Source(t, "/peer", row.peer)
				info = credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{peer.SVID.Certificates[0]}}}
				audience = "spiffe://test/peer"
			}
			token, expires, err := NewGenerator(domain.Source(t, "/own", row.own), row.life)(info)
			if err != nil {
				t.Fatal(err)
			}
			read := claims(t, token)
			near := func(what string, have time.Time, want time.Duration) {
				if off := time.Until(have) - want; off > 2*time.Second || off < -2*time.Second {
					t.Errorf("%s is %v off", what, off)
				}
			}
			near("expires", expires, row.expires)
			near("exp", time.Unix(int64(read["exp"].(float64)), 0), row.exp)
			if read["sub"] != "spiffe://test/own" {
				t.Errorf("sub %v", read["sub"])
			}
			// A list also where there is but one.
			if list, ok := read["aud"].([]any); audience != nil && (!ok || len(list) != 1 || list[0] != audience) {
				t.Errorf("aud %v", read["aud"])
			}
			for _, claim := range []string{"iat", "nbf", "iss", "jti"} {
				if read[claim] != nil {
					t.Errorf("%s %v", claim, read[claim])
				}
			}
			if audience == nil && read["aud"] != nil {
				t.Errorf("aud %v", read["aud"])
			}
			if subject, err := Subject(token); err != nil || subject != "spiffe://test/own" {
				t.Errorf("subject %q, %v", subject, err)
			}
		})
	}
}
