package recording

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"google.golang.org/grpc/binarylog/grpc_binarylog_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"interop/internal/meta"
)

// maxEntry is the longest log entry that is read: a message of gRPC's default limit, with its
// metadata.
const maxEntry = 8 << 20

// call is what is known of a call while its entries are read.
type call struct {
	number    int
	direction string
	path      string
	method    *Method
	peer      string
	asked     bool
	answered  bool
	metadata  map[string]any
	header    map[string]any
	address   string
}

// converter makes a recording of log entries.
type converter struct {
	recording *Recording
	names     Namer
	calls     map[string]*call
	// byNumber is all of them, of every method that is known.
	byNumber []*call
	start    time.Time
}

// Convert reads the binary logs of one program: files of entries of
// google.golang.org/grpc/binarylog, each with its length before it in four bytes, most significant
// first, as that package's own sink writes them. Both sides of the program must be logged, with
// whole headers and messages (GRPC_BINARY_LOG_FILTER="*"). What random matches is named too, where
// it is not nil.
func Convert(header Header, random *regexp.Regexp, files ...string) (*Recording, error) {
	c := &converter{recording: &Recording{Header: header}, calls: make(map[string]*call)}
	c.names.Random = random
	for _, file := range files {
		in, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		err = entries(in, c.take)
		_ = in.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	c.finish()
	return c.recording, nil
}

func entries(in io.Reader, take func(*grpc_binarylog_v1.GrpcLogEntry) error) error {
	for {
		var length uint32
		err := binary.Read(in, binary.BigEndian, &length)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if length > maxEntry {
			return fmt.Errorf("an entry of %d bytes, at most %d are read: no binary log?", length, maxEntry)
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			// The program was ended while it wrote.
			return nil
		}
		entry := &grpc_binarylog_v1.GrpcLogEntry{}
		if err := proto.Unmarshal(text, entry); err != nil {
			return err
		}
		if err := take(entry); err != nil {
			return err
		}
	}
}

func (c *converter) take(entry *grpc_binarylog_v1.GrpcLogEntry) error {
	key := fmt.Sprint(entry.GetLogger(), entry.GetCallId())
	at := entry.GetTimestamp().AsTime()
	if c.start.IsZero() {
		c.start = at
	}
	if header := entry.GetClientHeader(); header != nil {
		c.begin(key, entry, header)
		return nil
	}
	call := c.calls[key]
	if call == nil {
		// Not the mesh's, as health checks.
		return nil
	}
	switch entry.GetType() {
	case grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_SERVER_HEADER:
		call.header = metadataOf(entry.GetServerHeader().GetMetadata())
		if call.direction == "out" {
			call.address = address(entry.GetPeer())
		}
		return nil
	case grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_CLIENT_MESSAGE:
		return c.message(call, Request, call.method.NewRequest(), entry)
	case grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_SERVER_MESSAGE:
		return c.message(call, Answer, call.method.NewAnswer(), entry)
	case grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_SERVER_TRAILER:
		trailer := entry.GetTrailer()
		c.add(call, at, Event{Kind: End, Code: codes.Code(trailer.GetStatusCode()).String(), Text: trailer.GetStatusMessage()})
		delete(c.calls, key)
	case grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_CANCEL:
		c.add(call, at, Event{Kind: End, Code: codes.Canceled.String()})
		delete(c.calls, key)
	}
	return nil
}

func (c *converter) begin(key string, entry *grpc_binarylog_v1.GrpcLogEntry, header *grpc_binarylog_v1.ClientHeader) {
	method := FindMethod(header.GetMethodName())
	if method == nil {
		return
	}
	call := &call{
		number: len(c.byNumber) + 1, direction: "in",
		path: header.GetMethodName(), method: method,
		metadata: metadataOf(header.GetMetadata()),
	}
	if entry.GetLogger() == grpc_binarylog_v1.GrpcLogEntry_LOGGER_CLIENT {
		call.direction = "out"
	} else if token, ok := call.metadata[meta.TokenKey].(string); ok {
		call.peer = subject(token)
		call.address = address(entry.GetPeer())
	}
	c.calls[key] = call
	c.byNumber = append(c.byNumber, call)
}

func (c *converter) message(call *call, kind string, message proto.Message, entry *grpc_binarylog_v1.GrpcLogEntry) error {
	if err := proto.Unmarshal(entry.GetMessage().GetData(), message); err != nil {
		return err
	}
	data, err := ToJSON(message)
	if err != nil {
		return err
	}
	event := Event{Kind: kind, Message: data}
	switch {
	case kind == Request && !call.asked:
		call.asked = true
		event.Metadata = call.metadata
	case kind == Answer && !call.answered:
		call.answered = true
		event.Metadata = call.header
		if call.direction == "out" {
			call.peer = answerer(data, call.header)
		}
	}
	c.add(call, entry.GetTimestamp().AsTime(), event)
	return nil
}

func (c *converter) add(call *call, at time.Time, event Event) {
	event.At = at.Sub(c.start).Milliseconds()
	event.Call, event.Direction, event.Method = call.number, call.direction, call.path
	for key, item := range event.Metadata {
		event.Metadata[key] = c.names.Data(item, at)
	}
	event.Message, _ = c.names.Data(event.Message, at).(map[string]any)
	c.recording.Events = append(c.recording.Events, event)
}

// finish tells each call's peer: where nothing in the call did, by the address, or for a watch by
// the last call of its service.
func (c *converter) finish() {
	byAddress, byService := make(map[string]string), make(map[string]string)
	for _, call := range c.byNumber {
		if call.direction == "out" && call.peer != "" && call.address != "" {
			byAddress[call.address] = call.peer
		}
	}
	c.recording.Header.Peers = make(map[string]string)
	for _, call := range c.byNumber {
		if call.direction != "out" {
			c.note(call.peer, "")
			if call.address != "" && !slices.Contains(c.recording.Header.Remote, call.peer) {
				c.recording.Header.Remote = append(c.recording.Header.Remote, call.peer)
			}
			continue
		}
		service := call.path[:strings.LastIndexByte(call.path, '/')]
		if service == "/connection.MonitorConnection" {
			service = "/networkservice.NetworkService"
		}
		if call.peer == "" {
			call.peer = byAddress[call.address]
		}
		if call.peer == "" {
			call.peer = byService[service]
		}
		byService[service] = call.peer
		c.note(call.peer, call.address)
	}
	for at := range c.recording.Events {
		event := &c.recording.Events[at]
		event.Peer = c.byNumber[event.Call-1].peer
	}
}

func (c *converter) note(peer, address string) {
	if peer == "" {
		return
	}
	if address != "" || c.recording.Header.Peers[peer] == "" {
		c.recording.Header.Peers[peer] = address
	}
}

// metadataOf is metadata as data: a list where a key has several values, the path as what it is.
func metadataOf(entries *grpc_binarylog_v1.Metadata) map[string]any {
	data := make(map[string]any)
	for _, entry := range entries.GetEntry() {
		if entry.GetKey() == "date" {
			continue
		}
		var value any = string(entry.GetValue())
		if entry.GetKey() == meta.PathKey {
			var path map[string]any
			if err := json.Unmarshal(entry.GetValue(), &path); err == nil {
				value = path
			}
		}
		switch before := data[entry.GetKey()].(type) {
		case nil:
			data[entry.GetKey()] = value
		case []any:
			data[entry.GetKey()] = append(before, value)
		default:
			data[entry.GetKey()] = []any{before, value}
		}
	}
	return data
}

// answerer is who put its token into the path that came back.
func answerer(message, header map[string]any) string {
	if path, ok := header[meta.PathKey].(map[string]any); ok {
		return nextSubject(path, "Index", "PathSegments")
	}
	if path, ok := message["path"].(map[string]any); ok {
		return nextSubject(path, "index", "pathSegments")
	}
	return ""
}

// nextSubject is whose token is right of the current segment.
func nextSubject(path map[string]any, indexKey, segmentsKey string) string {
	index, _ := path[indexKey].(float64)
	segments, _ := path[segmentsKey].([]any)
	if int(index)+1 >= len(segments) {
		return ""
	}
	segment, _ := segments[int(index)+1].(map[string]any)
	token, _ := segment["token"].(string)
	return subject(token)
}

func subject(token string) string {
	claims := jwt.RegisteredClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return ""
	}
	return claims.Subject
}

// address is a TCP peer's URL; that of a unix socket says nothing elsewhere.
func address(of *grpc_binarylog_v1.Address) string {
	if of.GetIpPort() == 0 {
		return ""
	}
	return "tcp://" + net.JoinHostPort(of.GetAddress(), strconv.Itoa(int(of.GetIpPort())))
}
