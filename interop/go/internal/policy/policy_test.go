package policy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"interop/internal/gen/connection"
	"interop/internal/meta"
	"interop/internal/testid"
)

// world is three identities of one domain, and contexts in which they are the peer.
type world struct {
	t   *testing.T
	ids map[string]*testid.Source
}

func newWorld(t *testing.T) *world {
	domain := testid.New(t, "test")
	w := &world{t: t, ids: map[string]*testid.Source{}}
	for _, name := range []string{"a", "b", "c"} {
		w.ids[name] = domain.Source(t, "/"+name, time.Hour)
	}
	return w
}

// token is one of `by` for `audience`, that lives so long.
func (w *world) token(by, audience string, life time.Duration) string {
	w.t.Helper()
	claims := jwt.RegisteredClaims{
		Subject:   w.ids[by].SVID.ID.String(),
		Audience:  jwt.ClaimStrings{w.ids[audience].SVID.ID.String()},
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(life)),
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(w.ids[by].SVID.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) peer(name string) context.Context {
	if name == "" {
		return context.Background()
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{w.ids[name].SVID.Certificates[0]}}
	return peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

func along(index uint32, tokens ...string) *connection.Path {
	path := &connection.Path{Index: index}
	for _, token := range tokens {
		path.PathSegments = append(path.PathSegments, &connection.PathSegment{Token: token})
	}
	return path
}

func TestStandard(t *testing.T) {
	w := newWorld(t)
	ab, bc, cb := w.token("a", "b", time.Hour), w.token("b", "c", time.Hour), w.token("c", "b", time.Hour)
	ac, old := w.token("a", "c", time.Hour), w.token("a", "b", -time.Second)
	owned := map[string][]string{"nse": {"spiffe://test/a", "spiffe://test/b"}}
	for name, row := range map[string]struct {
		file  string
		peer  string
		input any
		want  bool
	}{
		"readable":                 {"common/tokens_valid", "", along(1, ab, bc), true},
		"no segments are readable": {"common/tokens_valid", "", along(0), true},
		"one is not readable":      {"common/tokens_valid", "", along(1, ab, "x.y.z"), false},
		"one is missing":           {"common/tokens_valid", "", along(1, ab, ""), false},
		"chained":                  {"common/tokens_chained", "", along(2, ab, bc, cb), true},
		"one is chained":           {"common/tokens_chained", "", along(0, ab), true},
		"none is chained":          {"common/tokens_chained", "", along(0), true},
		"a link is wrong":          {"common/tokens_chained", "", along(2, ab, cb, cb), false},
		"the first is for another": {"common/tokens_chained", "", along(1, ac, bc), false},
		"an unreadable link":       {"common/tokens_chained", "", along(1, ab, "x"), false},
		"alive":                    {"common/tokens_expired", "", along(1, ab, bc), true},
		"none has expired":         {"common/tokens_expired", "", along(0), true},
		"one has expired":          {"common/tokens_expired", "", along(1, old, bc), false},
		"one without a token":      {"common/tokens_expired", "", along(1, ab, ""), false},
		"the caller's":             {"server/prev_token_signed", "a", along(1, ab, bc), true},
		"another's":                {"server/prev_token_signed", "b", along(1, ab, bc), false},
		"no certificate":           {"server/prev_token_signed", "", along(1, ab, bc), false},
		"nobody before":            {"server/prev_token_signed", "a", along(0, ab), false},
		"the answerer's":           {"client/next_token_signed", "b", along(0, ab, bc), true},
		"another answerer's":       {"client/next_token_signed", "c", along(0, ab, bc), false},
		"nobody after":             {"client/next_token_signed", "b", along(1, ab, bc), false},
		"a free name":              {"registry/client_allowed", "", RegistryInput{ResourceID: "spiffe://test/c", ResourceName: "new", ResourcePathIDs: owned}, true},
		"the owner":                {"registry/client_allowed", "", RegistryInput{ResourceID: "spiffe://test/a", ResourceName: "nse", ResourcePathIDs: owned}, true},
		"not the owner":            {"registry/client_allowed", "", RegistryInput{ResourceID: "spiffe://test/c", ResourceName: "nse", ResourcePathIDs: owned}, false},
		"a hop is not the owner":   {"registry/client_allowed", "", RegistryInput{ResourceID: "spiffe://test/b", ResourceName: "nse", ResourcePathIDs: owned}, false},
		"a registry path":          {"server/prev_token_signed", "a", RegistryInput{Index: 1, PathSegments: []*meta.Segment{{Token: ab}, {Token: bc}}}, true},
		"an own connection":        {"monitor/service_connection", "", map[string]any{"service_spiffe_id": "s", "selector_connection_ids": []string{"1"}, "spiffe_id_connection_map": map[string]any{"s": []string{"1", "2"}}}, true},
		"another's connection":     {"monitor/service_connection", "", map[string]any{"service_spiffe_id": "s", "selector_connection_ids": []string{"3"}, "spiffe_id_connection_map": map[string]any{"s": []string{"1", "2"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			list := MustLoad(standardFolder + "/" + row.file + ".rego")
			if len(list) != 1 {
				t.Fatalf("%d policies", len(list))
			}
			err := list.Check(w.peer(row.peer), row.input)
			if (err == nil) != row.want {
				t.Errorf("%v", err)
			}
			if err != nil && status.Code(err) != codes.PermissionDenied {
				t.Errorf("code %s: %v", status.Code(err), err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		whole := filepath.Join(folder, name)
		if err := os.WriteFile(whole, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return whole
	}
	good := write("good.rego", "package mine\n\ndefault valid = false\n\nvalid {\n\tinput.index == 7\n}\n")
	broken := write("broken.txt", "package mine\nvalid {")
	unnamed := write("unnamed.txt", "valid = true")
	for _, row := range []struct {
		masks []string
		count int
		fails bool
	}{
		{Server, 4, false},
		{Client, 4, false},
		{RegistryServer, 5, false},
		{RegistryClient, 5, false},
		{[]string{good}, 1, false},
		{[]string{folder + "/.*.rego"}, 1, false},
		{[]string{folder + "/none.*"}, 0, false},
		{[]string{broken}, 0, true},
		{[]string{unnamed}, 0, true},
		{[]string{"["}, 0, true},
	} {
		list, err := Load(row.masks...)
		if (err != nil) != row.fails || len(list) != row.count {
			t.Errorf("%v: %d, %v", row.masks, len(list), err)
		}
	}
	for index, want := range map[uint32]bool{7: true, 8: false} {
		if err := MustLoad(good).Check(t.Context(), along(index)); (err == nil) != want {
			t.Errorf("index %d: %v", index, err)
		}
	}
}
