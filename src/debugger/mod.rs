//! Debuggers: scripts and argument lists for gdb, command lines for WinDbg and kd. Values in, values out.

pub mod gdb;
pub mod windbg;
