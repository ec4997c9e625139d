//! Debuggers: scripts and argument lists for gdb. Values in, values out.

pub mod gdb;
