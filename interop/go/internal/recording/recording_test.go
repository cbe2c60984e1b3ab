package recording

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"google.golang.org/grpc/binarylog/grpc_binarylog_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/meta"
)

// start is when the tests' programs began to speak.
var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func token(t *testing.T, from, to string) string {
	t.Helper()
	claims := jwt.RegisteredClaims{Subject: from, Audience: jwt.ClaimStrings{to}}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestNames(t *testing.T) {
	names := Namer{Random: regexp.MustCompile(`svc-[a-z0-9]{4}`)}
	id, other := "6f1c8a10-0a5e-4c0d-9f6e-0123456789ab", "6f1c8a10-0a5e-4c0d-9f6e-0123456789ac"
	for _, row := range []struct{ is, want string }{
		{"plain", "plain"},
		{"KERNEL/svc-a1b2", "KERNEL/<any 1>"},
		{id, "<id 1>"},
		{"@/tmp/" + other + "/s and " + id, "@/tmp/<id 2>/s and <id 1>"},
		{"inode://4/4026531840", "<inode 1>"},
		{token(t, "spiffe://d/a", "spiffe://d/b"), "<token spiffe://d/a to spiffe://d/b>"},
		{"2026-11-23T09:10:00.4Z", "<now +600s>"},
		{"2026-11-23T08:59:59+00:00", "<now -1s>"},
	} {
		if got := names.Text(row.is, start); got != row.want {
			t.Errorf("%s: got %s, want %s", row.is, got, row.want)
		}
	}
}

// entry is one of a call, as grpc-go logs it.
type entry struct {
	call   uint64
	server bool
	kind   grpc_binarylog_v1.GrpcLogEntry_EventType
	method string
	token  string
	data   proto.Message
}

func write(t *testing.T, log []entry) string {
	t.Helper()
	var text bytes.Buffer
	for _, entry := range log {
		is := &grpc_binarylog_v1.GrpcLogEntry{
			Timestamp: timestamppb.New(start), CallId: entry.call, Type: entry.kind,
			Logger: grpc_binarylog_v1.GrpcLogEntry_LOGGER_CLIENT,
		}
		if entry.server {
			is.Logger = grpc_binarylog_v1.GrpcLogEntry_LOGGER_SERVER
		}
		switch {
		case entry.method != "":
			is.Payload = &grpc_binarylog_v1.GrpcLogEntry_ClientHeader{ClientHeader: &grpc_binarylog_v1.ClientHeader{
				MethodName: entry.method,
				Metadata:   &grpc_binarylog_v1.Metadata{Entry: []*grpc_binarylog_v1.MetadataEntry{{Key: meta.TokenKey, Value: []byte(entry.token)}}},
			}}
		case entry.data != nil:
			data, err := proto.Marshal(entry.data)
			if err != nil {
				t.Fatal(err)
			}
			is.Payload = &grpc_binarylog_v1.GrpcLogEntry_Message{Message: &grpc_binarylog_v1.Message{Data: data}}
		}
		bytes, err := proto.Marshal(is)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(binary.BigEndian.AppendUint32(nil, uint32(len(bytes))))
		text.Write(bytes)
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// unary is the entries of a request to or from the program.
func unary(call uint64, server bool, token string, answer *connection.Connection) []entry {
	const method = "/networkservice.NetworkService/Request"
	asked := &networkservice.NetworkServiceRequest{Connection: &connection.Connection{Id: "c"}}
	return []entry{
		{call, server, grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_CLIENT_HEADER, method, token, nil},
		{call, server, grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_CLIENT_MESSAGE, "", "", asked},
		{call, server, grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_SERVER_MESSAGE, "", "", answer},
		{call, server, grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_SERVER_TRAILER, "", "", nil},
	}
}

func TestConvert(t *testing.T) {
	answer := &connection.Connection{Id: "c", Path: &connection.Path{PathSegments: []*connection.PathSegment{
		{Token: token(t, "spiffe://d/manager", "spiffe://d/forwarder")},
		{Token: token(t, "spiffe://d/forwarder", "spiffe://d/manager")},
	}}}
	in := unary(1, true, token(t, "spiffe://d/client", "spiffe://d/manager"), answer)
	hand := unary(2, true, token(t, "spiffe://d/hand", "spiffe://d/manager"), answer)
	out := unary(1, false, "", answer)
	// Both sides count their calls; the client's is answered after the hop's.
	log := append(append(append([]entry{}, in[:2]...), out...), in[2:]...)
	log = append(log, entry{9, true, grpc_binarylog_v1.GrpcLogEntry_EVENT_TYPE_CLIENT_HEADER, "/SpiffeWorkloadAPI/FetchX509SVID", "", nil})
	recording, err := Convert(Header{Role: "manager"}, nil, write(t, append(log, hand...)))
	if err != nil {
		t.Fatal(err)
	}
	recording.LeaveOut(regexp.MustCompile("/hand$"), 0)
	var got []string
	for _, event := range recording.Events {
		got = append(got, event.Direction+" "+event.Peer+" "+event.Kind)
	}
	want := "in spiffe://d/client request, out spiffe://d/forwarder request, out spiffe://d/forwarder answer, " +
		"out spiffe://d/forwarder end, in spiffe://d/client answer, in spiffe://d/client end"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if _, known := recording.Header.Peers["spiffe://d/hand"]; known {
		t.Error("a peer that was left out is still named")
	}
	var text bytes.Buffer
	if err := recording.Write(&text); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "recording")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := Read(file); err != nil || len(again.Events) != len(recording.Events) {
		t.Errorf("read again: %v", err)
	}
}
