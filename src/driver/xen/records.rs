//! What `xe …-list` prints: records of `name ( RW): value` lines with blank lines between them.

use std::collections::BTreeMap;

/// One object of xapi, by parameter name.
pub(super) type Record = BTreeMap<String, String>;

/// What xe writes for a reference to nothing.
pub(super) const NOTHING: &str = "<not in database>";

/// Takes a listing apart. A line that is no parameter's belongs to the value before it: names may have line breaks.
pub(super) fn records(listing: &str) -> Vec<Record> {
    let mut all = Vec::new();
    let mut record = Record::new();
    let mut last: Option<String> = None;
    for line in listing.lines() {
        match parameter(line) {
            Some((name, value)) => {
                // Each record begins with the object's identifier.
                if name == "uuid" && !record.is_empty() {
                    all.push(std::mem::take(&mut record));
                }
                record.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                last = Some(name.to_owned());
            }
            None if line.trim().is_empty() => {}
            None => {
                if let Some(value) = last.as_ref().and_then(|name| record.get_mut(name)) {
                    value.push('\n');
                    value.push_str(line);
                }
            }
        }
    }
    if !record.is_empty() {
        all.push(record);
    }
    all
}

/// `     name-label ( RW): value`; the brackets say what may be done with it, `M` for a map, `S` for a set.
fn parameter(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim_start().split_once(" (")?;
    let (kind, rest) = rest.split_once(')')?;
    let is_kind = !kind.is_empty() && kind.chars().all(|character| " MSRWO".contains(character));
    let value = rest.trim_start().strip_prefix(':')?;
    let is_name = !name.is_empty() && !name.contains([' ', '\t']);
    (is_kind && is_name).then(|| (name, value.strip_prefix(' ').unwrap_or(value).trim_end()))
}

/// Returns a key of a map as a listing shows it, `key: value; key: value`. For other VMs only: of the wanted one each key
/// is asked for by itself, since a value may have a semicolon.
pub(super) fn in_map<'a>(map: &'a str, key: &str) -> Option<&'a str> {
    map.split("; ").find_map(|entry| {
        let (name, value) = entry.split_once(": ")?;
        (name.trim() == key).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
uuid ( RO)               : 0c6b1a52-8f37-4d5e-9a7b-2c1d3e4f5a6b
          name-label ( RW): win11-dev
         power-state ( RO): running
         resident-on ( RO): 9f1e
            platform (MRW): timeoffset: 0; hvm_serial: tcp::7001,server,nodelay,nowait; acpi: 1


uuid ( RO)               : 1d
          name-label ( RW): two
lines: yes
         resident-on ( RO): <not in database>
            platform (MRW):


";

    #[test]
    fn a_listing_is_taken_apart() {
        let all = records(LISTING);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["name-label"], "win11-dev");
        assert_eq!(
            in_map(&all[0]["platform"], "hvm_serial"),
            Some("tcp::7001,server,nodelay,nowait")
        );
        assert_eq!(in_map(&all[0]["platform"], "acp"), None);
        assert_eq!(all[1]["name-label"], "two\nlines: yes");
        assert_eq!(
            (all[1]["resident-on"].as_str(), all[1]["platform"].as_str()),
            (NOTHING, "")
        );
        assert!(records("").is_empty() && records("\n\n").is_empty());
    }
}
