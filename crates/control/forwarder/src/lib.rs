//! The forwarder: selects the endpoint, plans and makes interfaces.
