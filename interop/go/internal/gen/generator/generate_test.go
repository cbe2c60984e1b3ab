package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The committed bindings are those of today's proto/.
func TestFresh(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("the generator made nothing")
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(root, "internal", "gen", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(have) != want {
			t.Errorf("%s is stale: run `go generate ./internal/gen`", name)
		}
	}
}
