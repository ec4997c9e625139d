//! What is changed inside a guest, and how it is taken back. Decides from values: no effects here.

pub mod dialogue;
pub mod linux;
pub mod windows;
