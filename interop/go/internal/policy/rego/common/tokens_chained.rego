# Each token is meant for whoever signed the next one.
package nsm

default valid = false

# One segment has nobody to be meant for.
valid {
	not input.path_segments[1]
}

valid {
	input.path_segments[1]
	broken := [at | input.path_segments[at]; at + 1 < count(input.path_segments); not chained(at)]
	count(broken) == 0
}

chained(at) {
	claims(at).aud[_] == claims(at + 1).sub
}

claims(at) = payload {
	[_, payload, _] := io.jwt.decode(input.path_segments[at].token)
}
