//! Namespaces, links, addresses, routes and packet filters by netlink.
