//! Intended changes as data: steps, stages and plans. No I/O, no clock, no environment.

pub mod conflict;
pub mod diff;
mod firewall;
pub mod mark;
pub mod plan_of_targets;
pub mod show;
pub mod step;
pub mod take_back;

pub use firewall::{FirewallChange, Guard, LiveChange, LiveDigest};
pub use plan_of_targets::{HostPlan, Plan, PlannedPort, TargetPlan};
pub use step::{
    Action, BootSettingsUndo, Condition, Effect, FileInstall, FileSource, PlanContext, PowerChange,
    QmpCommand, SettingUndo, Stage, StageContent, Step, Undo,
};
