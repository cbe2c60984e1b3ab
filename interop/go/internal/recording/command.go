package recording

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Run is the command `recording FLAGS FILES... > RECORDING`: see [Convert].
func Run(_ context.Context, args []string) error {
	var header Header
	flags := flag.NewFlagSet("recording", flag.ContinueOnError)
	flags.StringVar(&header.Role, "role", "", "of the program: manager, registry, forwarder, endpoint, client")
	flags.StringVar(&header.ID, "id", "", "its SPIFFE ID")
	flags.StringVar(&header.Name, "name", "", "its NSM_NAME")
	flags.StringVar(&header.Program, "program", "", "its name and the commit it was built from")
	flags.StringVar(&header.Date, "date", "", "the day of the run")
	flags.StringVar(&header.URL, "url", "", "where others reached it, as tcp://10.0.0.1:5001")
	without := flags.String("without", "^$", "regular expression for SPIFFE IDs of peers whose calls are left out")
	random := flags.String("random", "", "regular expression for more that is different each time, as made names of interfaces")
	until := flags.Duration("until", 0, "leave out what was begun later than this")
	flags.Func("env", "NAME=VALUE, a setting it had; repeatable", func(value string) error {
		name, value, found := strings.Cut(value, "=")
		if !found {
			return errors.New("want NAME=VALUE")
		}
		if header.Env == nil {
			header.Env = make(map[string]string)
		}
		header.Env[name] = value
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if header.Role == "" || header.ID == "" || header.Name == "" || flags.NArg() == 0 {
		return errors.New("--role, --id, --name and a file are needed")
	}
	unwanted, err := regexp.Compile(*without)
	if err != nil {
		return err
	}
	var named *regexp.Regexp
	if *random != "" {
		if named, err = regexp.Compile(*random); err != nil {
			return err
		}
	}
	recording, err := Convert(header, named, flags.Args()...)
	if err != nil {
		return err
	}
	recording.LeaveOut(unwanted, *until)
	if len(recording.Events) == 0 {
		return fmt.Errorf("%v: no call of the mesh in it", flags.Args())
	}
	return recording.Write(os.Stdout)
}
