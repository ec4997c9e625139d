//! A text file as its lines, each with its own end, so that what is not touched stays as it is.

use crate::render::edit::EditError;

/// Takes a file apart.
///
/// # Errors
///
/// It is no UTF-8.
pub fn split(bytes: &[u8]) -> Result<Vec<String>, EditError> {
    let text = std::str::from_utf8(bytes).map_err(|_| EditError::Malformed {
        line: 0,
        message: "the file is no UTF-8".to_owned(),
    })?;
    Ok(text.split_inclusive('\n').map(str::to_owned).collect())
}

/// Adds lines at the end; a last line without an end gets one first.
pub fn append(lines: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    if let Some(last) = lines.last_mut()
        && !last.ends_with('\n')
    {
        last.push('\n');
    }
    lines.extend(more);
}
