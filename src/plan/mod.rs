//! Intended changes as data: steps, stages and plans. No I/O, no clock, no environment.

pub mod step;

pub use step::{
    Action, Condition, Effect, PlanContext, PowerChange, QmpCommand, Stage, StageContent, Step, Undo,
};
