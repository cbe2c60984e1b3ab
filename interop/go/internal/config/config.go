// Package config reads settings from the environment, by the names that the field knows.
package config

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Env reads settings; the first that cannot be read is its error, so that a role reads all of
// them and asks once.
type Env struct{ err error }

// Err is the first setting that could not be read.
func (e *Env) Err() error { return e.err }

func (e *Env) fail(name, value string, err error) {
	if e.err == nil {
		e.err = fmt.Errorf("%s=%q: %w", name, value, err)
	}
}

// String reads a text; an empty one counts as not set.
func (e *Env) String(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// Required reads a text that must be there.
func (e *Env) Required(name string) string {
	value := os.Getenv(name)
	if value == "" {
		e.fail(name, value, fmt.Errorf("must be set"))
	}
	return value
}

// List reads texts between commas.
func (e *Env) List(name string, otherwise ...string) []string {
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	var list []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// Map reads `key:value` between commas.
func (e *Env) Map(name string, otherwise map[string]string) map[string]string {
	items := e.List(name)
	if len(items) == 0 {
		return otherwise
	}
	pairs := map[string]string{}
	for _, item := range items {
		key, value, ok := strings.Cut(item, ":")
		if !ok {
			e.fail(name, item, fmt.Errorf("want key:value"))
		}
		pairs[key] = value
	}
	return pairs
}

// Bool reads true or false.
func (e *Env) Bool(name string, otherwise bool) bool {
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	parsed, err := strconv.ParseBool(value)
	if err != nil {
		e.fail(name, value, err)
	}
	return parsed
}

// Duration reads a length of time, as `10m`.
func (e *Env) Duration(name string, otherwise time.Duration) time.Duration {
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	parsed, err := time.ParseDuration(value)
	if err != nil {
		e.fail(name, value, err)
	}
	return parsed
}

// Int reads a number.
func (e *Env) Int(name string, otherwise int) int {
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	parsed, err := strconv.Atoi(value)
	if err != nil {
		e.fail(name, value, err)
	}
	return parsed
}

// URL reads a URL; nil where it is neither set nor has a default.
func (e *Env) URL(name, otherwise string) *url.URL {
	value := e.String(name, otherwise)
	if value == "" {
		return nil
	}
	parsed, err := url.Parse(value)
	if err != nil {
		e.fail(name, value, err)
	}
	return parsed
}
