//! Nodes and pods as namespaces on one machine.
