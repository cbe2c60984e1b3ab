package mechanism

import "math/rand/v2"

// How a name is made where none is asked for: the start of the service's, and what is random.
const (
	servicePart = 10
	alphabet    = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// InterfaceName makes a name for an interface to a service, as long as Linux allows.
func InterfaceName(service string) string {
	name := []byte(service)
	if len(name) > servicePart {
		name = name[:servicePart]
	}
	name = append(name, '-')
	for len(name) < MaxInterfaceName {
		name = append(name, alphabet[rand.IntN(len(alphabet))])
	}
	return string(name)
}
