package elements

import (
	"context"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/mechanism"
)

// KernelClient asks for a kernel interface in the own network namespace.
type KernelClient struct{ Null }

// Request puts the namespace into every preference of the type, or makes one.
func (k *KernelClient) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	asked := false
	for _, preference := range request.GetMechanismPreferences() {
		if preference.GetType() == mechanism.Kernel {
			own(preference, request.GetConnection().GetNetworkService())
			asked = true
		}
	}
	if !asked {
		preference := &connection.Mechanism{Cls: mechanism.Local, Type: mechanism.Kernel}
		own(preference, request.GetConnection().GetNetworkService())
		request.MechanismPreferences = append(request.MechanismPreferences, preference)
	}
	return next.Request(ctx, request)
}

// KernelServer answers with a kernel interface in the own network namespace.
type KernelServer struct{ Null }

// Request puts the namespace into the chosen mechanism.
func (k *KernelServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if chosen := request.GetConnection().GetMechanism(); chosen.GetType() == mechanism.Kernel {
		own(chosen, request.GetConnection().GetNetworkService())
	}
	return next.Request(ctx, request)
}

func own(mech *connection.Mechanism, service string) {
	if mech.Parameters == nil {
		mech.Parameters = map[string]string{}
	}
	mech.Parameters[mechanism.InodeURL] = mechanism.OwnNamespace
	if mech.Parameters[mechanism.Name] == "" {
		mech.Parameters[mechanism.Name] = mechanism.InterfaceName(service)
	}
}
