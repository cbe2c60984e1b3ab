# No segment's token has expired.
package nsm

default valid = false

valid {
	stale := [segment | segment := input.path_segments[_]; not alive(segment)]
	count(stale) == 0
}

# A path without segments is fine, also where the field is missing.
valid {
	not input.path_segments
}

# The whole segment is handed in: a token that is missing must not count as alive.
alive(segment) {
	[_, payload, _] := io.jwt.decode(segment.token)
	payload.exp > time.now_ns() / 1000000000
}
