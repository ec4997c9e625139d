//! Finds, reads, checks and merges profiles.
