//! Debuggers: scripts and argument lists for gdb.
