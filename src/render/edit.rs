//! Edits keyed files: reads the values of keys, sets and removes keys, leaves every other byte alone.

use crate::model::{EditOperation, FileFormat, HostPath};
use crate::render::{iptables, loader_entry, marked, vmx, xl_cfg};
use std::collections::BTreeMap;

/// The file cannot be edited key by key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file is not what its format says.
    #[error("line {line}: {message}")]
    Malformed {
        /// Line from 1; 0 is the file as a whole.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A key stands twice, so that no value is certain.
    #[error("the key `{key}` stands on the lines {first} and {second}")]
    Duplicate {
        /// Which.
        key: String,
        /// Where first.
        first: usize,
        /// Where again.
        second: usize,
    },
    /// The file is not in UTF-8, so the bytes of a character beyond ASCII are not known.
    #[error(
        "the value of `{key}` has `{character}`, which is not ASCII, and the file does not say that it is UTF-8"
    )]
    Encoding {
        /// Which key.
        key: String,
        /// The first such character.
        character: char,
    },
    /// The new value cannot be written.
    #[error(transparent)]
    Value(#[from] crate::render::quote::QuoteError),
}

/// Returns the plain values of these keys; `None` for an absent key. `bytes` is `None` if there is no file.
///
/// # Errors
///
/// The file is malformed, or one of the keys stands twice.
pub fn values(
    format: FileFormat,
    bytes: Option<&[u8]>,
    keys: &[&str],
) -> Result<BTreeMap<String, Option<String>>, EditError> {
    let Some(bytes) = bytes else {
        return Ok(keys.iter().map(|key| ((*key).to_owned(), None)).collect());
    };
    match format {
        FileFormat::Whole => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            Ok(keys
                .iter()
                .map(|key| ((*key).to_owned(), Some(text.clone())))
                .collect())
        }
        FileFormat::Iptables => values_in::<iptables::RuleFile>(bytes, keys),
        FileFormat::XlCfg => values_in::<xl_cfg::XlCfg>(bytes, keys),
        FileFormat::Vmx => values_in::<vmx::VmxFile>(bytes, keys),
        FileFormat::Marked => values_in::<marked::MarkedFile>(bytes, keys),
        FileFormat::LoaderEntry => values_in::<loader_entry::LoaderEntry>(bytes, keys),
    }
}

/// A file of keys with values.
trait Keyed: Sized {
    fn parse(bytes: &[u8]) -> Result<Self, EditError>;
    fn value(&self, key: &str) -> Result<Option<String>, EditError>;
    fn set(&mut self, key: &str, value: &str) -> Result<(), EditError>;
    fn remove(&mut self, key: &str) -> Result<(), EditError>;
    fn into_bytes(self) -> Vec<u8>;
}

/// Each editor has these by the same names.
macro_rules! keyed {
    ($($file:ty),*) => {
        $(impl Keyed for $file {
            fn parse(bytes: &[u8]) -> Result<Self, EditError> {
                <$file>::parse(bytes)
            }
            fn value(&self, key: &str) -> Result<Option<String>, EditError> {
                <$file>::value(self, key)
            }
            fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
                <$file>::set(self, key, value)
            }
            fn remove(&mut self, key: &str) -> Result<(), EditError> {
                <$file>::remove(self, key)
            }
            fn into_bytes(self) -> Vec<u8> {
                <$file>::into_bytes(self)
            }
        })*
    };
}

keyed!(
    iptables::RuleFile,
    xl_cfg::XlCfg,
    vmx::VmxFile,
    marked::MarkedFile,
    loader_entry::LoaderEntry
);

fn values_in<F: Keyed>(bytes: &[u8], keys: &[&str]) -> Result<BTreeMap<String, Option<String>>, EditError> {
    let file = F::parse(bytes)?;
    keys.iter()
        .map(|key| Ok(((*key).to_owned(), file.value(key)?)))
        .collect()
}

fn apply_in<F: Keyed>(
    bytes: Option<&[u8]>,
    operations: &[EditOperation],
) -> Result<Option<Vec<u8>>, EditError> {
    let mut file = F::parse(bytes.unwrap_or_default())?;
    for operation in operations {
        match operation {
            EditOperation::Set { key, value } => file.set(key, value)?,
            EditOperation::Remove { key } => file.remove(key)?,
        }
    }
    Ok(Some(file.into_bytes()))
}

/// Returns the path that is there while somebody else holds the file in memory and will write it over; `None` where no
/// such thing is known.
pub fn lock_of(format: FileFormat, path: &HostPath) -> Option<HostPath> {
    match format {
        FileFormat::Vmx => Some(vmx::lock_of(path)),
        FileFormat::XlCfg
        | FileFormat::Iptables
        | FileFormat::Marked
        | FileFormat::LoaderEntry
        | FileFormat::Whole => None,
    }
}

/// Returns the file's bytes after the operations; `None` if the file is gone then (a whole file that is removed).
/// Applying the same operations again changes nothing.
///
/// # Errors
///
/// The file is malformed, one of the keys stands twice, or a value cannot be written.
pub fn apply(
    format: FileFormat,
    bytes: Option<&[u8]>,
    operations: &[EditOperation],
) -> Result<Option<Vec<u8>>, EditError> {
    match format {
        FileFormat::Whole => {
            let last = operations.last();
            Ok(match last {
                None => bytes.map(<[u8]>::to_vec),
                Some(operation) => operation.value().map(|text| text.as_bytes().to_vec()),
            })
        }
        FileFormat::Iptables => apply_in::<iptables::RuleFile>(bytes, operations),
        FileFormat::XlCfg => apply_in::<xl_cfg::XlCfg>(bytes, operations),
        FileFormat::Vmx => apply_in::<vmx::VmxFile>(bytes, operations),
        FileFormat::Marked => apply_in::<marked::MarkedFile>(bytes, operations),
        FileFormat::LoaderEntry => apply_in::<loader_entry::LoaderEntry>(bytes, operations),
    }
}
