# Every segment's token can be read as a JWT. Signatures are the business of other policies.
package nsm

default valid = false

valid {
	unreadable := [segment | segment := input.path_segments[_]; not readable(segment)]
	count(unreadable) == 0
}

# A path without segments is fine, also where the field is missing.
valid {
	not input.path_segments
}

# The whole segment is handed in: a token that is missing must not count as readable.
readable(segment) {
	io.jwt.decode(segment.token)
}
