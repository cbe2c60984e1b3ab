package recording

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// The methods that are known.
	_ "interop/internal/gen/connection"
	_ "interop/internal/gen/ipam"
	_ "interop/internal/gen/networkservice"
	_ "interop/internal/gen/registry"
)

// Method is what a gRPC path names.
type Method struct{ protoreflect.MethodDescriptor }

// packages are the mesh's. What a process says to others, as to its Workload API, is not for
// recordings: there are keys in it.
var packages = []string{"networkservice", "connection", "registry", "ipam"}

// FindMethod finds `/package.Service/Method`; nil for one that is not of the mesh.
func FindMethod(path string) *Method {
	service, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	space, _, _ := strings.Cut(service, ".")
	if !slices.Contains(packages, space) {
		return nil
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	described, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	method := described.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil
	}
	return &Method{method}
}

// NewRequest is an empty message of who calls, NewAnswer of who is called.
func (m *Method) NewRequest() proto.Message { return newMessage(m.Input()) }

// NewAnswer see [Method.NewRequest].
func (m *Method) NewAnswer() proto.Message { return newMessage(m.Output()) }

func newMessage(of protoreflect.MessageDescriptor) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		// It is linked in, as its file is.
		panic(err)
	}
	return found.New().Interface()
}

// ToJSON is a message as data.
func ToJSON(message proto.Message) (map[string]any, error) {
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var data map[string]any
	return data, json.Unmarshal(text, &data)
}

// FromJSON is data as a message.
func FromJSON(data map[string]any, message proto.Message) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(text, message); err != nil {
		return fmt.Errorf("%s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}
