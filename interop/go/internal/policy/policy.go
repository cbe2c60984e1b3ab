// Package policy has Open Policy Agent decide, from .rego files: the standard ones in rego/, or
// what lies under the same names on disk.
package policy

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Policy is one file, ready to be asked.
type Policy struct {
	// Name of the file.
	Name  string
	query rego.PreparedEvalQuery
}

// Parse reads a policy: what its package calls `valid` is its verdict.
func Parse(name, source string) (*Policy, error) {
	space, err := packageOf(source)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	query, err := rego.New(
		rego.Query("data."+space+".valid"),
		rego.Module(name, source),
		// The files in the field are of the language's first version.
		rego.SetRegoVersion(ast.RegoV0),
	).PrepareForEval(context.Background())
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	return &Policy{Name: name, query: query}, nil
}

func packageOf(source string) (string, error) {
	lines := bufio.NewScanner(strings.NewReader(source))
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "package"); ok {
			return strings.TrimSpace(name), nil
		}
	}
	return "", fmt.Errorf("no package line")
}

// Check asks the policy about what goes into its input as JSON, and the certificate of the
// context's peer. The error carries PermissionDenied where the verdict is no.
func (p *Policy) Check(ctx context.Context, subject any) error {
	input, err := inputOf(ctx, subject)
	if err != nil {
		return status.Errorf(codes.Internal, "policy %s: input: %v", p.Name, err)
	}
	results, err := p.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return status.Errorf(codes.Internal, "policy %s: %v", p.Name, err)
	}
	if !results.Allowed() {
		return status.Error(codes.PermissionDenied, "no sufficient privileges")
	}
	return nil
}

func inputOf(ctx context.Context, subject any) (map[string]any, error) {
	text, err := json.Marshal(subject)
	if err != nil {
		return nil, err
	}
	input := map[string]any{}
	if err := json.Unmarshal(text, &input); err != nil {
		return nil, err
	}
	if input == nil {
		// A nil message is `null`.
		input = map[string]any{}
	}
	input["auth_info"] = map[string]any{"certificate": certificateOf(ctx)}
	return input, nil
}

// certificateOf is the peer's certificate as PEM, or nothing.
func certificateOf(ctx context.Context) string {
	remote, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	secured, ok := remote.AuthInfo.(credentials.TLSInfo)
	if !ok || len(secured.State.PeerCertificates) == 0 {
		return ""
	}
	block := &pem.Block{Type: "CERTIFICATE", Bytes: secured.State.PeerCertificates[0].Raw}
	return string(pem.EncodeToMemory(block))
}

// List is policies that must all agree.
type List []*Policy

// Check asks one after the other; the first no counts.
func (l List) Check(ctx context.Context, subject any) error {
	for _, policy := range l {
		if err := policy.Check(ctx, subject); err != nil {
			return fmt.Errorf("authorization policy %s: %w", policy.Name, err)
		}
	}
	return nil
}
