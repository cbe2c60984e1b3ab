//! From the two sides of a connection to the desired kernel state, as data.
