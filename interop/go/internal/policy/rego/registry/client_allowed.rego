# A name belongs to whoever registered it first.
package nsm

default valid = false

# Nobody has it yet.
valid {
	not input.resource_path_ids_map[input.resource_name]
}

valid {
	input.resource_path_ids_map[input.resource_name][0] == input.resource_id
}
