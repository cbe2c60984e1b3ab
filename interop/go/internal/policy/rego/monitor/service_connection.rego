# A monitor may see a connection that its own SPIFFE ID has requested.
package nsm

default valid = false

valid {
	wanted := input.selector_connection_ids[_]
	wanted == input.spiffe_id_connection_map[input.service_spiffe_id][_]
}
