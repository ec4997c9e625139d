//! Intended changes as data: steps, stages and plans. No I/O, no clock, no environment.

pub mod diff;
pub mod plan_of_targets;
pub mod show;
pub mod step;

pub use plan_of_targets::{Plan, TargetPlan};
pub use step::{
    Action, Condition, Effect, PlanContext, PowerChange, QmpCommand, Stage, StageContent, Step, Undo,
};
