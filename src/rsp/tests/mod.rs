//! Tables for each rule of the machine, against a simulated kgdb; real captures replayed; properties.

mod attach;
mod break_in;
mod cases;
mod death;
mod gone;
mod kdb;
mod properties;
mod replay;
mod rig;
mod session;
mod sim;
