// Package recording is conversations of a real program with its peers as data that can be read:
// one JSON object a line, first a [Header], then an [Event] for each thing that was said, in order.
//
// What is different each time stands there as a name: `<id 3>` for a UUID, `<inode 1>` for a file,
// `<any 1>` for what was declared to be random, `<token A to B>` for a JWT with its subject and
// audience, `<now +600s>` for a time, seen from the moment when it was said.
package recording

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// maxLine is the longest line that is read: a message of gRPC's default limit, as JSON.
const maxLine = 16 << 20

// Header says whose conversations these are.
type Header struct {
	// Role of the program that was recorded: manager, registry, forwarder, endpoint or client.
	Role string `json:"role"`
	// ID is its SPIFFE ID.
	ID string `json:"id"`
	// Name is its NSM_NAME.
	Name string `json:"name"`
	// Program and the commit it was built from.
	Program string `json:"program"`
	// Date of the run.
	Date string `json:"date"`
	// URL is where others reached it; empty for a client.
	URL string `json:"url,omitempty"`
	// Env is the settings that matter for what it said.
	Env map[string]string `json:"env,omitempty"`
	// Peers by SPIFFE ID: the URL where the program called them, if it did.
	Peers map[string]string `json:"peers"`
	// Remote are the peers that called over TCP; the others used a unix socket.
	Remote []string `json:"remote,omitempty"`
}

// Kinds of events.
const (
	// Request is a message from who calls; the first of a call begins it.
	Request = "request"
	// Answer is a message from who was called.
	Answer = "answer"
	// End is how the call ended.
	End = "end"
)

// Event is something that was said.
type Event struct {
	// At is when, in milliseconds from the start.
	At int64 `json:"at"`
	// Call is the number of the call, in the order in which they began.
	Call int `json:"call"`
	// Direction is "in" where the peer called, "out" where the recorded program did.
	Direction string `json:"direction"`
	// Peer is the other side's SPIFFE ID; empty where nothing in the call told it.
	Peer string `json:"peer,omitempty"`
	// Method with its service, as `/networkservice.NetworkService/Request`.
	Method string `json:"method"`
	// Kind is [Request], [Answer] or [End].
	Kind string `json:"kind"`
	// Metadata of the call with its first request, the header of the answer with its first answer.
	Metadata map[string]any `json:"metadata,omitempty"`
	// Message in protobuf's JSON.
	Message map[string]any `json:"message,omitempty"`
	// Code and Text are the status of an end.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

// Recording is all of it.
type Recording struct {
	Header Header
	Events []Event
}

// Read reads a recording.
func Read(file string) (*Recording, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	recording := &Recording{}
	for number := 1; lines.Scan(); number++ {
		if number == 1 {
			err = json.Unmarshal(lines.Bytes(), &recording.Header)
		} else {
			var event Event
			err = json.Unmarshal(lines.Bytes(), &event)
			recording.Events = append(recording.Events, event)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
	}
	return recording, lines.Err()
}

// Write writes one.
func (r *Recording) Write(out io.Writer) error {
	encoder := json.NewEncoder(out)
	// It is read by people: `<` stays `<`.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r.Header); err != nil {
		return err
	}
	for _, event := range r.Events {
		if err := encoder.Encode(event); err != nil {
			return err
		}
	}
	return nil
}
