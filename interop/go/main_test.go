package main

import (
	"os"
	"path/filepath"
	"testing"

	"interop/internal/replay"
)

// TestMain lets this binary be the program too: a replay starts it in a role.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTheRolesSpeakAsTheRealPrograms holds this module to what it is for: in the place of the real
// programs it says what those said.
func TestTheRolesSpeakAsTheRealPrograms(t *testing.T) {
	for recording, role := range map[string]string{
		"client":    "client",
		"endpoint":  "endpoint",
		"manager-1": "manager",
		"manager-2": "manager",
		"registry":  "registry",
	} {
		t.Run(recording, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("..", "recordings", recording+".jsonl")
			arguments := []string{"--allow", "testdata/allowances.yaml", file, "--", os.Args[0], role}
			if err := replay.Run(t.Context(), arguments); err != nil {
				t.Error(err)
			}
		})
	}
}
