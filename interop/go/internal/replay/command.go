package replay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"interop/internal/recording"
)

// Run is the command `replay [--allow FILE] RECORDING -- PROGRAM ARGS...`: the program takes the
// recorded one's place.
func Run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	allow := flags.String("allow", "", "file of differences that are meant")
	keep := flags.String("keep", "", "folder to keep the program's log and state in; else it is thrown away")
	pace := flags.Bool("pace", false, "peers call no sooner than they did: where leases matter that end")
	all := flags.Bool("all", false, "print also what is allowed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return errors.New("want RECORDING -- PROGRAM ARGS")
	}
	command := flags.Args()[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	script, err := recording.Read(flags.Arg(0))
	if err != nil {
		return err
	}
	var allowances []Allowance
	if *allow != "" {
		if allowances, err = ReadAllowances(*allow); err != nil {
			return err
		}
	}
	dir := *keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "replay"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	allowed := func(d difference) bool { return find(allowances, script.Header.Role, d) >= 0 }
	different, err := replay(ctx, script, dir, command, *pace, allowed)
	if err != nil {
		return err
	}
	return judge(script, different, allowances, *all)
}

func replay(ctx context.Context, script *recording.Recording, dir string, command []string, pace bool, allowed func(difference) bool) ([]difference, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stage, err := newStage(ctx, script, dir, command)
	if err != nil {
		return nil, err
	}
	defer stage.stop()
	return newPlayer(stage, pace, allowed).play(ctx)
}

// find is the first allowance of a difference, -1 if there is none.
func find(allowances []Allowance, role string, d difference) int {
	return slices.IndexFunc(allowances, func(a Allowance) bool { return a.allows(role, d) })
}

// judge prints what is otherwise and not meant to be.
func judge(script *recording.Recording, different []difference, allowances []Allowance, all bool) error {
	unmeant := 0
	for _, difference := range different {
		if at := find(allowances, script.Header.Role, difference); at >= 0 {
			if all {
				fmt.Printf("allowed (%s): %s\n", allowances[at].Why, difference)
			}
			continue
		}
		unmeant++
		fmt.Println(difference)
	}
	calls := 0
	for _, event := range script.Events {
		calls = max(calls, event.Call)
	}
	fmt.Printf("%s: %d calls, %d events, %d differences, %d of them meant\n",
		script.Header.Role, calls, len(script.Events), len(different), len(different)-unmeant)
	if unmeant > 0 {
		return fmt.Errorf("%d differences are not meant", unmeant)
	}
	return nil
}
