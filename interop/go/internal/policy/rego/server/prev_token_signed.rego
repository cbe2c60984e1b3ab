# The caller's token is signed with the key of the certificate that the caller showed.
package nsm

default valid = false

# The field is absent where it is 0.
default here = 0

here = input.index

valid {
	here > 0
	caller := input.path_segments[here - 1]
	io.jwt.verify_es256(caller.token, input.auth_info.certificate)
}
