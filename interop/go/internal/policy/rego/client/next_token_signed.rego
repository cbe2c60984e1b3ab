# The next hop's token is signed with the key of the certificate that the next hop showed.
package nsm

default valid = false

# The field is absent where it is 0.
default here = 0

here = input.index

valid {
	answerer := input.path_segments[here + 1]
	io.jwt.verify_es256(answerer.token, input.auth_info.certificate)
}
