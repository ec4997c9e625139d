//! The value of `serial`: one device as a string, or several in a list, one for each port.

use super::scan::{Value, value};
use crate::render::edit::EditError;
use crate::render::quote::xl_string;

/// What stands for a port that nobody uses, so that the ones behind it keep their numbers. (QEMU before 9.0 does not
/// count `none`.)
const UNUSED: &str = "null";

fn plain(device: &Value) -> Result<String, EditError> {
    match device {
        Value::Atom { plain, .. } => Ok(String::from_utf8_lossy(plain).into_owned()),
        Value::List { .. } => Err(EditError::Malformed {
            line: 0,
            message: "a list in the list of `serial`".to_owned(),
        }),
    }
}

/// Returns the devices of a value of `serial`, port 1 first, without quotes.
///
/// # Errors
///
/// It is no value, or a list of lists.
pub fn devices(text: &str) -> Result<Vec<String>, EditError> {
    match value(text)? {
        atom @ Value::Atom { .. } => Ok(vec![plain(&atom)?]),
        Value::List { values, .. } => values.iter().map(plain).collect(),
    }
}

/// Returns the value of `serial` in which port `index` (from 0) is this device; `None` is an absent `serial`. What is
/// there keeps its spelling: string or list, quotes, blanks, comments.
///
/// # Errors
///
/// The present value is none, or a device that no string can hold.
pub fn with_device(present: Option<&str>, index: usize, device: &str) -> Result<String, EditError> {
    let fresh = |first: &[&str]| -> Result<String, EditError> {
        let quoted = first.iter().map(|device| xl_string(device, '"'));
        Ok(quoted.collect::<Result<Vec<_>, _>>()?.join(", "))
    };
    let Some(text) = present else {
        let mut all = vec![UNUSED; index];
        all.push(device);
        return Ok(format!("[ {} ]", fresh(&all)?));
    };
    match value(text)? {
        atom @ Value::Atom { .. } if index == 0 => replaced(text, &atom, device),
        Value::Atom { .. } => {
            let mut others = vec![UNUSED; index - 1];
            others.push(device);
            Ok(format!("[ {text}, {} ]", fresh(&others)?))
        }
        Value::List { values, range } => {
            if let Some(there) = values.get(index) {
                return replaced(text, there, device);
            }
            let mut others = vec![UNUSED; index - values.len()];
            others.push(device);
            let added = fresh(&others)?;
            Ok(match values.last() {
                Some(last) => {
                    let at = last.range().end;
                    format!("{}, {added}{}", &text[..at], &text[at..])
                }
                None => {
                    let at = range.start + 1;
                    let blank = if text[at..].starts_with(' ') { "" } else { " " };
                    format!("[ {added}{blank}{}", &text[at..])
                }
            })
        }
    }
}

/// Returns the value of `serial` without port `index`; `None` if no port is left. A port in between becomes one that
/// nobody uses, so that those behind it keep their numbers.
///
/// # Errors
///
/// The present value is none.
pub fn without_device(present: &str, index: usize) -> Result<Option<String>, EditError> {
    let all = devices(present)?;
    let used = |(at, device): (usize, &String)| at != index && device != UNUSED;
    if index >= all.len() {
        return Ok(Some(present.to_owned()));
    }
    let Some(last) = all.iter().enumerate().rposition(used) else {
        return Ok(None);
    };
    let Value::List { values, .. } = value(present)? else {
        return Ok(None);
    };
    if index < last {
        return replaced(present, &values[index], UNUSED).map(Some);
    }
    let (from, to) = (values[last].range().end, values[values.len() - 1].range().end);
    Ok(Some(format!("{}{}", &present[..from], &present[to..])))
}

/// Writes another device in the place of one, in its kind of quotes, unless it is that device already.
fn replaced(text: &str, there: &Value, device: &str) -> Result<String, EditError> {
    if plain(there)? == device {
        return Ok(text.to_owned());
    }
    let range = there.range();
    let quote = match text[range.clone()].starts_with('\'') {
        true => '\'',
        false => '"',
    };
    let quoted = xl_string(device, quote)?;
    Ok(format!("{}{quoted}{}", &text[..range.start], &text[range.end..]))
}
