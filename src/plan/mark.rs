//! The words by which a change on a host is known as ours.

use crate::model::TargetName;

/// Returns the words that a driver leaves beside a change where the system has a place for them (a comment in a file,
/// a VM's notes, `other-config`, an iptables comment). They are the same for every apply, so that a second one has
/// nothing to change, and they are set like any other value, so that undo takes them away.
pub fn mark(target: &TargetName) -> String {
    format!("set by vmserial for target {target}, taken back by vmserial undo")
}
