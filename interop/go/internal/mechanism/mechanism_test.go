package mechanism

import (
	"fmt"
	"testing"

	"interop/internal/gen/connection"
)

func TestParseAsk(t *testing.T) {
	for text, want := range map[string]string{
		"kernel://svc/nsm-1":             "svc KERNEL map[name:nsm-1] map[]",
		"kernel://svc":                   "svc KERNEL map[] map[]",
		"memif://svc?a=1&b=2":            "svc MEMIF map[] map[a:1 b:2]",
		"kernel://svc/nsm-1?a=1&a=2":     "svc KERNEL map[name:nsm-1] map[a:1,2]",
		"kernel://svc@cluster2/nsm-1":    "svc@cluster2 KERNEL map[name:nsm-1] map[]",
		"kernel://svc/a/b/nsm-1":         "svc KERNEL map[name:nsm-1] map[]",
		"vfio://svc?sriovToken=intel/10": "svc VFIO map[] map[sriovToken:intel/10]",
		"svc":                            "",
		"kernel:///nsm-1":                "",
		"kernel://%zz":                   "",
	} {
		ask, err := ParseAsk(text)
		have := ""
		if err == nil {
			have = fmt.Sprint(ask.Service, " ", ask.Mechanism.Type, " ", ask.Mechanism.Parameters, " ", ask.Labels)
		}
		if have != want {
			t.Errorf("%q: have %s, want %s (%v)", text, have, want, err)
		}
	}
}

func TestVNI(t *testing.T) {
	for _, row := range []struct {
		parameters map[string]string
		odd        uint32
		fails      bool
	}{
		{map[string]string{SrcIP: "10.0.0.1", DstIP: "10.0.0.2"}, 0, false},
		{map[string]string{SrcIP: "10.0.0.2", DstIP: "10.0.0.1"}, 1, false},
		{map[string]string{SrcIP: "10.0.0.1", DstIP: "10.0.0.1"}, 0, false},
		{map[string]string{SrcIP: "9.0.0.1", DstIP: "10.0.0.1"}, 0, false},
		{map[string]string{SrcIP: "fd00::2", DstIP: "fd00::1"}, 1, false},
		// IPv4 in its long form is below every global IPv6 address.
		{map[string]string{SrcIP: "10.0.0.1", DstIP: "fd00::1"}, 0, false},
		{map[string]string{SrcIP: "10.0.0.1", DstIP: "10.0.0.2", SrcOrigIP: "10.0.0.3"}, 1, false},
		{map[string]string{SrcIP: "10.0.0.2", DstIP: "10.0.0.1", DstOrigIP: "10.0.0.3"}, 0, false},
		{map[string]string{SrcIP: "10.0.0.1"}, 0, true},
		{map[string]string{SrcIP: "x", DstIP: "10.0.0.1"}, 0, true},
	} {
		var vnis VNIs
		for range 100 {
			vni, err := vnis.Take(&connection.Mechanism{Parameters: row.parameters})
			if (err != nil) != row.fails {
				t.Fatalf("%v: %v", row.parameters, err)
			}
			if !row.fails && (vni%2 != row.odd || vni == 0 || vni > maxVNI) {
				t.Fatalf("%v: %d", row.parameters, vni)
			}
		}
	}
}

func TestInterfaceName(t *testing.T) {
	for service, start := range map[string]string{"svc": "svc-", "a-very-long-service": "a-very-lon-", "": "-"} {
		name := InterfaceName(service)
		if len(name) != MaxInterfaceName || name[:len(start)] != start || InterfaceName(service) == name {
			t.Errorf("%q: %q", service, name)
		}
	}
}
