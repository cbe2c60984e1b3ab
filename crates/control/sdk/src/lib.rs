//! Clients and endpoints of a mesh, as a library.
