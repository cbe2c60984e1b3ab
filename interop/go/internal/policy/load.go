package policy

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Where masks expect the standard policies, and where they are in this program.
const (
	standardFolder = "etc/nsm/opa"
	embeddedFolder = "rego"
)

//go:embed rego
var embedded embed.FS

// The masks by which roles name their policies unless they are told others.
var (
	Server         = []string{standardFolder + "/common/.*.rego", standardFolder + "/server/.*.rego"}
	Client         = []string{standardFolder + "/common/.*.rego", standardFolder + "/client/.*.rego"}
	RegistryServer = []string{standardFolder + "/common/.*.rego", standardFolder + "/registry/.*.rego", standardFolder + "/server/.*.rego"}
	RegistryClient = []string{standardFolder + "/common/.*.rego", standardFolder + "/registry/.*.rego", standardFolder + "/client/.*.rego"}
)

// Load reads the policies that masks name: a file, or a folder and a regular expression. A file
// on disk goes before the embedded one of the same name.
func Load(masks ...string) (List, error) {
	var list List
	for _, mask := range masks {
		sources, err := find(mask)
		if err != nil {
			return nil, err
		}
		for _, name := range sortedNames(sources) {
			policy, err := Parse(name, sources[name])
			if err != nil {
				return nil, err
			}
			list = append(list, policy)
		}
	}
	return list, nil
}

// MustLoad is [Load] of masks that are written in this program.
func MustLoad(masks ...string) List {
	list, err := Load(masks...)
	if err != nil {
		panic(err)
	}
	return list
}

func find(mask string) (map[string]string, error) {
	if text, err := os.ReadFile(mask); err == nil {
		return map[string]string{mask: string(text)}, nil
	}
	pattern, err := regexp.Compile("^" + mask + "$")
	if err != nil {
		return nil, fmt.Errorf("policy mask %q: %w", mask, err)
	}
	sources := map[string]string{}
	collect := func(files fs.FS, named func(string) string) {
		_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !pattern.MatchString(named(name)) {
				return nil
			}
			if text, err := fs.ReadFile(files, name); err == nil {
				sources[named(name)] = string(text)
			}
			return nil
		})
	}
	collect(embedded, func(name string) string {
		return standardFolder + strings.TrimPrefix(name, embeddedFolder)
	})
	folder := path.Dir(mask)
	collect(os.DirFS(folder), func(name string) string { return path.Join(folder, name) })
	return sources, nil
}

func sortedNames(sources map[string]string) []string {
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
