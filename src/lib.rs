//! `vmserial` gives a virtual machine a serial port, joins it to a console or a debugger, and starts the debugger.
//!
//! Arrows point inwards only (checked by `tests/architecture/`):
//!
//! ```text
//! main → cli → { session, config }
//!               session → { driver, guest, debugger, bridge, runner, plan }
//!                         driver, debugger → { runner (the trait only), plan, render } → model
//!                         bridge → { rsp, model }
//!                         guest → { plan, render, model }
//! pure, no I/O, no clock, no environment: model, plan, render, rsp, guest, config::{merge, validate}
//! never: model/plan/render/rsp → outward · driver → driver · bridge ↔ driver · anything → cli
//! ```

pub mod bridge;
pub mod cli;
pub mod config;
pub mod debugger;
pub mod driver;
pub mod guest;
pub mod host_service;
pub mod model;
pub mod plan;
pub mod render;
pub mod rsp;
pub mod runner;
pub mod session;
