package mechanism

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"

	"interop/internal/gen/connection"
)

// maxVNI is the last of 24 bits; 0 is not used.
const maxVNI = 1<<24 - 1

// VNIs hands out network identifiers for tunnels that come from one address: random ones, even
// where the source's address is not above the destination's, odd else, so that two nodes that
// choose at once never choose alike.
type VNIs struct {
	mutex sync.Mutex
	taken map[vniKey]bool
}

type vniKey struct {
	source string
	vni    uint32
}

// Take chooses the identifier for a tunnel with these parameters; source is whose table it is in.
func (v *VNIs) Take(tunnel *connection.Mechanism) (uint32, error) {
	source, destination := endOf(tunnel, SrcOrigIP, SrcIP), endOf(tunnel, DstOrigIP, DstIP)
	if source == nil || destination == nil {
		return 0, fmt.Errorf("vni: %s %q and %s %q are not both addresses", SrcIP, tunnel.GetParameters()[SrcIP], DstIP, tunnel.GetParameters()[DstIP])
	}
	odd := uint32(0)
	if bytes.Compare(source, destination) > 0 {
		odd = 1
	}
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if v.taken == nil {
		v.taken = map[vniKey]bool{}
	}
	for {
		vni := rand.Uint32N(maxVNI/2)<<1 | odd
		key := vniKey{tunnel.GetParameters()[SrcIP], vni}
		if vni != 0 && !v.taken[key] {
			v.taken[key] = true
			return vni, nil
		}
	}
}

// Release gives an identifier back.
func (v *VNIs) Release(tunnel *connection.Mechanism) {
	vni, err := strconv.ParseUint(tunnel.GetParameters()[VNI], 10, 24)
	if err != nil {
		return
	}
	v.mutex.Lock()
	defer v.mutex.Unlock()
	delete(v.taken, vniKey{tunnel.GetParameters()[SrcIP], uint32(vni)})
}

// endOf is an end's address in its 16-byte form; the one before translation goes first.
func endOf(tunnel *connection.Mechanism, original, plain string) net.IP {
	text := tunnel.GetParameters()[original]
	if text == "" {
		text = tunnel.GetParameters()[plain]
	}
	return net.ParseIP(text).To16()
}
