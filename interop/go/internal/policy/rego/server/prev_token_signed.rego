# The caller's token is signed with the key of the certificate that the caller showed.
package nsm

default valid = false

# The field is absent where it is 0.
default here = 0

here = input.index

# There is no segment before the first: nobody has signed then.
valid {
	caller := input.path_segments[here - 1]
	io.jwt.verify_es256(caller.token, input.auth_info.certificate)
}
