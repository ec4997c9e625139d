//! Decides how the edit of a file is taken back: our keys, not the file.

use crate::model::{Digest, EditOperation, FileEdit};
use crate::render::edit::{self, EditError};
use std::collections::BTreeMap;

/// What the journal kept of an edit.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The file as it was; `None` if there was none.
    pub before: Option<&'a [u8]>,
    /// Digest of the file as we left it; `None` if we removed it.
    pub after: Option<&'a Digest>,
    /// Our keys before the edit; `None` is absent.
    pub values: &'a BTreeMap<String, Option<String>>,
}

/// How an edit is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeBack {
    /// Our values are not there (any more), for this reason: nothing is to be done.
    Nothing(&'static str),
    /// The file is byte for byte as we left it: the original bytes return, `None` removes it.
    Original(Option<Vec<u8>>),
    /// The file changed elsewhere: today's content with our keys put back.
    Keys(Option<Vec<u8>>),
    /// Somebody else changed what we changed: nothing of this file is touched.
    Refused(Vec<ThreeVersions>),
}

/// A key that somebody else changed after us. `None` is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreeVersions {
    /// The key; empty is the file as a whole.
    pub key: String,
    /// Before our edit.
    pub before: Option<String>,
    /// What we wrote.
    pub ours: Option<String>,
    /// What is there today.
    pub now: Option<String>,
}

/// Decides from today's content. The edit need not have been completed: what did not land is not taken back.
///
/// # Errors
///
/// Today's file can no longer be taken apart.
pub fn take_back(edit: &FileEdit, kept: Kept<'_>, today: Option<&[u8]>) -> Result<TakeBack, EditError> {
    let digest = today.map(Digest::of);
    if digest == kept.before.map(Digest::of) {
        return Ok(TakeBack::Nothing("the file is as it was before"));
    }
    if digest.as_ref() == kept.after {
        return Ok(TakeBack::Original(kept.before.map(<[u8]>::to_vec)));
    }
    let Some(today) = today else {
        return Ok(TakeBack::Nothing("the file is gone, and our values with it"));
    };
    // A key that is set twice in one edit holds the last value.
    let ours: BTreeMap<&str, Option<&str>> = edit
        .operations
        .iter()
        .map(|operation| (operation.key(), operation.value()))
        .collect();
    let keys: Vec<&str> = ours.keys().copied().collect();
    let now = edit::values(edit.format, Some(today), &keys)?;
    let (mut operations, mut refused) = (Vec::new(), Vec::new());
    for (key, ours) in ours {
        let before = kept.values.get(key).cloned().flatten();
        let now = now.get(key).cloned().flatten();
        if before.as_deref() == ours || now == before {
            continue;
        }
        let key = key.to_owned();
        if now.as_deref() != ours {
            let ours = ours.map(ToOwned::to_owned);
            refused.push(ThreeVersions {
                key,
                before,
                ours,
                now,
            });
            continue;
        }
        operations.push(match before {
            Some(value) => EditOperation::Set { key, value },
            None => EditOperation::Remove { key },
        });
    }
    if !refused.is_empty() {
        return Ok(TakeBack::Refused(refused));
    }
    if operations.is_empty() {
        return Ok(TakeBack::Nothing("somebody put our keys back already"));
    }
    edit::apply(edit.format, Some(today), &operations).map(TakeBack::Keys)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{FileFormat, HostPath};
    use proptest::prelude::*;

    fn set(key: &str, value: &str) -> EditOperation {
        EditOperation::Set {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    /// Applies an edit and returns what the journal would keep, with the new content.
    struct Case {
        edit: FileEdit,
        before: Option<Vec<u8>>,
        after: Option<Vec<u8>>,
        values: BTreeMap<String, Option<String>>,
    }

    impl Case {
        fn new(format: FileFormat, before: Option<&[u8]>, operations: Vec<EditOperation>) -> Self {
            let keys: Vec<&str> = operations.iter().map(EditOperation::key).collect();
            let values = edit::values(format, before, &keys).unwrap();
            let after = edit::apply(format, before, &operations).unwrap();
            Self {
                edit: FileEdit {
                    path: HostPath::new("/x"),
                    format,
                    planned_on: before.map(Digest::of),
                    operations,
                    before: None,
                },
                before: before.map(<[u8]>::to_vec),
                after,
                values,
            }
        }

        fn take_back(&self, today: Option<&[u8]>) -> TakeBack {
            let after = self.after.as_deref().map(Digest::of);
            let kept = Kept {
                before: self.before.as_deref(),
                after: after.as_ref(),
                values: &self.values,
            };
            take_back(&self.edit, kept, today).unwrap()
        }
    }

    const VMX: &[u8] = b"disk = \"a.vmdk\"\r\nserial0.present = \"FALSE\"\r\n";

    fn vmx() -> Case {
        Case::new(
            FileFormat::Vmx,
            Some(VMX),
            vec![set("serial0.present", "TRUE"), set("serial0.fileName", "/s")],
        )
    }

    #[test]
    fn a_file_as_we_left_it_gets_its_original_bytes() {
        let case = vmx();
        let undone = case.take_back(case.after.as_deref());
        assert_eq!(undone, TakeBack::Original(Some(VMX.to_vec())));
    }

    #[test]
    fn a_foreign_change_elsewhere_survives() {
        let case = vmx();
        let snapshot = String::from_utf8(case.after.clone().unwrap()).unwrap();
        let today = snapshot.replace("a.vmdk", "a-000001.vmdk");
        let expected = b"disk = \"a-000001.vmdk\"\r\nserial0.present = \"FALSE\"\r\n".to_vec();
        assert_eq!(
            case.take_back(Some(today.as_bytes())),
            TakeBack::Keys(Some(expected))
        );
    }

    #[test]
    fn a_key_that_somebody_else_changed_is_refused_with_three_versions() {
        let case = vmx();
        let today = String::from_utf8(case.after.clone().unwrap())
            .unwrap()
            .replace("/s", "/other");
        let versions = ThreeVersions {
            key: "serial0.fileName".to_owned(),
            before: None,
            ours: Some("/s".to_owned()),
            now: Some("/other".to_owned()),
        };
        assert_eq!(
            case.take_back(Some(today.as_bytes())),
            TakeBack::Refused(vec![versions])
        );
    }

    #[test]
    fn a_key_that_we_did_not_change_is_not_ours() {
        let case = Case::new(
            FileFormat::Vmx,
            Some(VMX),
            vec![set("serial0.present", "FALSE"), set("serial0.fileName", "/s")],
        );
        let today = String::from_utf8(case.after.clone().unwrap())
            .unwrap()
            .replace("FALSE", "TRUE");
        let expected = b"disk = \"a.vmdk\"\r\nserial0.present = \"TRUE\"\r\n".to_vec();
        assert_eq!(
            case.take_back(Some(today.as_bytes())),
            TakeBack::Keys(Some(expected))
        );
    }

    #[test]
    fn a_file_we_made_is_removed_only_if_it_is_still_ours() {
        let case = Case::new(FileFormat::Whole, None, vec![set("", "ours\n")]);
        assert_eq!(case.take_back(Some(b"ours\n")), TakeBack::Original(None));
        assert!(matches!(case.take_back(Some(b"theirs\n")), TakeBack::Refused(_)));
        assert!(matches!(case.take_back(None), TakeBack::Nothing(_)));
    }

    #[test]
    fn a_file_we_removed_comes_back_only_where_nobody_made_another() {
        let case = Case::new(
            FileFormat::Whole,
            Some(b"old"),
            vec![EditOperation::Remove { key: String::new() }],
        );
        assert_eq!(case.take_back(None), TakeBack::Original(Some(b"old".to_vec())));
        assert!(matches!(case.take_back(Some(b"new")), TakeBack::Refused(_)));
    }

    proptest! {
        /// Keys that somebody else sets are kept by an undo, ours get their old values, all other bytes stay.
        #[test]
        fn undo_after_any_foreign_change_leaves_that_change_alone(
            old in proptest::collection::btree_map("k[0-4]", "[a-c]{0,2}", 0..5),
            ours in proptest::collection::btree_map("k[0-4]", proptest::option::of("[a-c]{0,2}"), 1..4),
            theirs in proptest::collection::btree_map("f[0-4]", "[a-c]{0,2}", 0..4),
        ) {
            let before: String = old.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
            let operations = ours.iter().map(|(key, value)| match value {
                Some(value) => set(key, value),
                None => EditOperation::Remove { key: key.clone() },
            }).collect();
            let foreign: Vec<EditOperation> = theirs.iter().map(|(key, value)| set(key, value)).collect();
            let case = Case::new(FileFormat::Vmx, Some(before.as_bytes()), operations);
            let today = edit::apply(FileFormat::Vmx, case.after.as_deref(), &foreign).unwrap().unwrap();
            let undone = match case.take_back(Some(&today)) {
                TakeBack::Nothing(_) => today,
                TakeBack::Original(bytes) | TakeBack::Keys(bytes) => bytes.unwrap(),
                TakeBack::Refused(versions) => return Err(TestCaseError::fail(format!("{versions:?}"))),
            };
            let keys: Vec<&str> = old.keys().chain(ours.keys()).chain(theirs.keys()).map(String::as_str).collect();
            let found = edit::values(FileFormat::Vmx, Some(&undone), &keys).unwrap();
            for key in keys {
                prop_assert_eq!(found[key].as_ref(), theirs.get(key).or_else(|| old.get(key)), "{}", key);
            }
        }
    }
}
