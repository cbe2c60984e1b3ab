//! Connections, mechanisms, labels, selection and addresses as pure types.
