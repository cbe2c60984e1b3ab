package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// The files of proto/ that have bindings here. The Workload API's come with go-spiffe, under the
// same full names: a second set in one program is refused by the protobuf runtime.
var sources = []string{
	"connectioncontext.proto",
	"connection.proto",
	"networkservice.proto",
	"registry.proto",
	"ipam.proto",
}

// The plugins, run as tools of this module, so that go.mod pins their versions.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

// importBase is where the packages of the bindings are.
const importBase = "interop/internal/gen/"

// moduleRoot finds the folder of go.mod at or above the working folder.
func moduleRoot() (string, error) {
	at, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(at, "go.mod")); missing == nil {
			return at, nil
		}
		if filepath.Dir(at) == at {
			return "", errors.New("no go.mod at or above the working folder")
		}
		at = filepath.Dir(at)
	}
	return "", err
}

// generate returns the text of each binding by its name below internal/gen.
func generate(root string) (map[string]string, error) {
	request, err := compile(filepath.Join(root, "..", "..", "proto"))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, plugin := range plugins {
		made, err := run(root, plugin, request)
		if err != nil {
			return nil, err
		}
		for _, file := range made.GetFile() {
			files[strings.TrimPrefix(file.GetName(), importBase)] = file.GetContent()
		}
	}
	return files, nil
}

// compile reads the sources into what a plugin of protoc is given.
func compile(folder string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{folder}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(context.Background(), sources...)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", folder, err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: sources}
	var parameters []string
	for _, source := range sources {
		name := strings.TrimSuffix(source, ".proto")
		parameters = append(parameters, fmt.Sprintf("M%s=%s%s", source, importBase, name))
	}
	request.Parameter = proto.String(strings.Join(parameters, ","))
	seen := map[string]bool{}
	for _, file := range linked {
		request.ProtoFile = append(request.ProtoFile, described(file, seen)...)
	}
	return request, nil
}

// described lists a file after everything that it imports.
func described(file protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[file.Path()] {
		return nil
	}
	seen[file.Path()] = true
	var all []*descriptorpb.FileDescriptorProto
	for at := range file.Imports().Len() {
		all = append(all, described(file.Imports().Get(at).FileDescriptor, seen)...)
	}
	if result, ok := file.(linker.Result); ok {
		// The parsed form carries the comments.
		return append(all, result.FileDescriptorProto())
	}
	return append(all, protodesc.ToFileDescriptorProto(file))
}

func run(root, plugin string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	stdin, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	command := exec.Command("go", "tool", plugin)
	command.Dir, command.Stdin, command.Stderr = root, bytes.NewReader(stdin), os.Stderr
	stdout, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool %s: %w", plugin, err)
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(stdout, response); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", plugin, err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("%s: %s", plugin, response.GetError())
	}
	return response, nil
}
