//! The gdb remote serial protocol as kgdb speaks it: framing, state, the rules of a shared or own port. Bytes in, events out; no I/O, no clock.
