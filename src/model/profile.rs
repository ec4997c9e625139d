//! The profile exactly as it is written in YAML, every key of the design.
