package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/connection"
	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/recording"
)

// heard is a call of the program that waits for its answer.
type heard struct {
	peer  *peer
	path  string
	ctx   context.Context
	asked map[string]any
	// metadata as in recordings.
	metadata map[string]any
	reply    chan reply
}

type reply struct {
	message proto.Message
	header  metadata.MD
	err     error
}

// ear collects the program's calls until the script comes to them. What the script never comes to
// is answered at once.
type ear struct {
	mu      sync.Mutex
	waiting []*heard
	more    chan struct{}
	// script is how many calls are still to come of each method with what it is about.
	script map[string]int
	// improvised is what was answered without the script.
	improvised []*heard
}

func newEar(events []recording.Event) *ear {
	e := &ear{more: make(chan struct{}), script: make(map[string]int)}
	for _, event := range events {
		if event.Direction == "out" && event.Kind == recording.Request {
			e.script[event.Method+" "+subject(event.Message)]++
		}
	}
	return e
}

// unknown tells whether the script has no more such calls than wait already.
func (e *ear) unknown(path, about string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.script[path+" "+about]
	for _, call := range e.waiting {
		if call.path == path && subject(call.asked) == about {
			left--
		}
	}
	return left <= 0
}

// skip is told of a call of the script that was not made.
func (e *ear) skip(path, about string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script[path+" "+about]--
}

// subject is what a message is about: a name in the registry, a connection's service.
func subject(message map[string]any) string {
	if conn, ok := message["connection"].(map[string]any); ok {
		message = conn
	}
	for _, key := range []string{"networkService", "name"} {
		if is, ok := message[key].(string); ok {
			return is
		}
	}
	return ""
}

// improvise registers what the recorded program never did, as a registry would, has connections
// closed, and refuses everything else.
func (e *ear) improvise(call *heard, message proto.Message) {
	e.mu.Lock()
	e.improvised = append(e.improvised, call)
	e.mu.Unlock()
	switch message := message.(type) {
	case *registry.NetworkServiceEndpoint:
		if strings.HasSuffix(call.path, "/Register") {
			message.ExpirationTime = timestamppb.New(time.Now().Add(time.Minute))
			call.reply <- reply{message: message, header: call.answerPath()}
			return
		}
		call.reply <- reply{message: &emptypb.Empty{}, header: call.answerPath()}
	case *registry.NetworkService:
		if strings.HasSuffix(call.path, "/Register") {
			call.reply <- reply{message: message, header: call.answerPath()}
			return
		}
		call.reply <- reply{message: &emptypb.Empty{}, header: call.answerPath()}
	case *connection.Connection:
		// It ends: that is no part of the script.
		call.reply <- reply{message: &emptypb.Empty{}}
	default:
		call.reply <- reply{err: status.Error(codes.Unavailable, "the script has no such call")}
	}
}

// answerPath is the call's path with the peer's token behind the caller's.
func (h *heard) answerPath() metadata.MD {
	path, err := meta.IncomingPath(h.ctx)
	if err != nil {
		return nil
	}
	callers, _, err := meta.Token(h.ctx)
	if err != nil {
		return nil
	}
	from, _ := identity.Subject(callers)
	own, err := h.peer.token(from)
	if err != nil {
		return nil
	}
	if len(path.PathSegments) == 0 {
		path.PathSegments = []*meta.Segment{{}}
	}
	if int(path.Index) >= len(path.PathSegments) {
		return nil
	}
	left := path.Left()
	left.PathSegments[path.Index].Token = callers
	left.PathSegments = append(left.PathSegments, &meta.Segment{Token: own})
	text, err := json.Marshal(left)
	if err != nil {
		return nil
	}
	return metadata.Pairs(meta.PathKey, string(text))
}

// hear reads a call, and answers it when the script says how.
func (e *ear) hear(peer *peer, path string, stream grpc.ServerStream) error {
	method := recording.FindMethod(path)
	if method == nil {
		return status.Errorf(codes.Unimplemented, "nobody plays %s", path)
	}
	message := method.NewRequest()
	if err := stream.RecvMsg(message); err != nil && err != io.EOF {
		return err
	}
	asked, err := recording.ToJSON(message)
	if err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	call := &heard{
		peer: peer, path: path, ctx: stream.Context(), asked: asked,
		metadata: dataOf(md), reply: make(chan reply, 1),
	}
	if e.unknown(path, subject(asked)) {
		e.improvise(call, message)
	} else {
		e.add(call)
	}
	select {
	case <-stream.Context().Done():
		return stream.Context().Err()
	case reply := <-call.reply:
		if reply.err != nil {
			return reply.err
		}
		if err := stream.SendHeader(reply.header); err != nil {
			return err
		}
		return stream.SendMsg(reply.message)
	}
}

func (e *ear) add(call *heard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, call)
	close(e.more)
	e.more = make(chan struct{})
}

// expect waits for a call of this method about this to this peer.
func (e *ear) expect(peer *peer, path, about string, patience time.Duration) *heard {
	late := time.After(patience)
	for {
		e.mu.Lock()
		for at, call := range e.waiting {
			if call.path == path && call.peer == peer && subject(call.asked) == about {
				e.waiting = append(e.waiting[:at], e.waiting[at+1:]...)
				e.script[path+" "+about]--
				e.mu.Unlock()
				return call
			}
		}
		more := e.more
		e.mu.Unlock()
		select {
		case <-more:
		case <-late:
			return nil
		}
	}
}

// rest is the calls that the script had no place for.
func (e *ear) rest() []*heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(e.improvised, e.waiting...)
}

// dataOf is metadata as recordings have it.
func dataOf(md metadata.MD) map[string]any {
	data := make(map[string]any)
	for key, values := range md {
		if key == meta.PathKey && len(values) == 1 {
			var path map[string]any
			if json.Unmarshal([]byte(values[0]), &path) == nil {
				data[key] = path
				continue
			}
		}
		if len(values) == 1 {
			data[key] = values[0]
			continue
		}
		all := make([]any, len(values))
		for at, value := range values {
			all[at] = value
		}
		data[key] = all
	}
	return data
}

// tokenFault says what is wrong with the token that came with a call, if anything is: recordings
// do not have it, as a client's log does not.
func (h *heard) tokenFault(own string) string {
	token, expires, err := meta.Token(h.ctx)
	if err != nil {
		return err.Error()
	}
	if want := recording.TokenName(own, []string{h.peer.id}); recording.Token(token) != want {
		return fmt.Sprintf("%s, want %s", recording.Token(token), want)
	}
	if from, err := identity.Subject(token); err != nil || from != own {
		return fmt.Sprintf("its subject is %q", from)
	}
	if time.Until(expires) <= 0 {
		return fmt.Sprintf("it expired at %s", expires)
	}
	return ""
}
