//! Joins a VM's port to its clients: channels, policies, history, capture, BREAK, control socket.
