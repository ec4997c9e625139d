//! Why an undo touches nothing: somebody else changed what we set. The three versions are shown.

use crate::model::{FailureKind, Problem};
use crate::plan::diff::unified;
use crate::plan::take_back::ThreeVersions;

/// Shows what was there, what we wrote and what is there now.
pub(super) fn refusal(place: &str, versions: &[ThreeVersions]) -> Problem {
    let shown: Vec<String> = versions.iter().map(three_versions).collect();
    let message = format!(
        "somebody else changed what we set in {place}, so nothing is taken back:{}",
        shown.concat()
    );
    Problem::new(FailureKind::Precondition, message)
        .hint("Put the values right by hand, or set them to ours and run `vmserial undo` again.")
}

fn three_versions(versions: &ThreeVersions) -> String {
    if versions.key.is_empty() {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let (before, ours, now) = (
            bytes(&versions.before),
            bytes(&versions.ours),
            bytes(&versions.now),
        );
        let ours_diff = unified("before → ours", before.as_deref(), ours.as_deref());
        let now_diff = unified("ours → now", ours.as_deref(), now.as_deref());
        let lines = ours_diff.lines().chain(now_diff.lines());
        return lines.map(|line| format!("\n    {line}")).collect();
    }
    let shown = |value: &Option<String>| match value {
        Some(value) => format!("`{value}`"),
        None => "(absent)".to_owned(),
    };
    format!(
        "\n    {}: before {}, ours {}, now {}",
        versions.key,
        shown(&versions.before),
        shown(&versions.ours),
        shown(&versions.now)
    )
}
