//! Looks before a setting of a host is taken back: is it still ours?

use crate::model::{Problem, Wait};
use crate::plan::SettingUndo;
use crate::plan::take_back::ThreeVersions;
use crate::runner::Runner;
use crate::runner::local::must_succeed;
use crate::session::undo_plan::Taking;
use crate::session::undo_refusal::refusal;

/// Decides from a setting's value today.
///
/// # Errors
///
/// It cannot be read, or somebody else changed it after us.
pub(super) fn setting_now(
    setting: &SettingUndo,
    runner: &dyn Runner,
    wait: &Wait,
) -> Result<Taking, Problem> {
    let output = runner.run(&setting.look, wait)?;
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let now = if String::from_utf8_lossy(&said).contains(&setting.absent) {
        None
    } else {
        let output = must_succeed(runner.host(), &setting.look, output)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    };
    if now == setting.before {
        return Ok(Taking::Nothing(format!("`{}` is as it was before", setting.name)));
    }
    if now == setting.ours {
        return Ok(Taking::Run(setting.restore.clone()));
    }
    let versions = ThreeVersions {
        key: setting.name.clone(),
        before: setting.before.clone(),
        ours: setting.ours.clone(),
        now,
    };
    Err(refusal("the settings of its host", &[versions]))
}
