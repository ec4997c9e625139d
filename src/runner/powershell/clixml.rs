//! CLIXML: how Windows PowerShell writes errors on a standard error that is no console.

/// The mark before a document.
const MARK: &str = "#< CLIXML";

/// Returns what a standard error says as text: error and warning records of its CLIXML, everything else as it is.
/// Progress records are left out.
pub fn text(stderr: &str) -> String {
    let mut parts = stderr.split(MARK);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Behind the document may be plain text again.
        let (document, behind) = match part.rsplit_once("</Objs>") {
            Some((document, behind)) => (document, behind),
            None => (part, ""),
        };
        for record in document.split("<S S=\"").skip(1) {
            let Some((_, record)) = record.split_once("\">") else {
                continue;
            };
            // A document may be cut off.
            let content = record.split_once("</S>").map_or(record, |(content, _)| content);
            text.push_str(&unescaped(content));
        }
        text.push_str(behind.trim_start());
    }
    text.replace("\r\n", "\n")
}

/// Takes back XML's entities and CLIXML's `_xHHHH_`, a unit of UTF-16.
fn unescaped(content: &str) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut rest = content;
    while let Some(first) = rest.chars().next() {
        let escaped = rest
            .strip_prefix("_x")
            .and_then(|code| Some((code.get(..4)?, code.get(4..)?.strip_prefix('_')?)));
        if let Some((digits, behind)) = escaped
            && let Ok(unit) = u16::from_str_radix(digits, 16)
        {
            units.push(unit);
            rest = behind;
            continue;
        }
        let entity = [
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&quot;", '"'),
            ("&apos;", '\''),
            ("&amp;", '&'),
        ]
        .into_iter()
        .find(|(written, _)| rest.starts_with(written));
        let (character, length) = match entity {
            Some((written, character)) => (character, written.len()),
            None => (first, first.len_utf8()),
        };
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        rest = &rest[length..];
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_become_text_and_progress_is_left_out() {
        let stderr = "before\r\n#< CLIXML\r\n<Objs Version=\"1.1.0.1\"><Obj S=\"progress\" RefId=\"0\"><MS><AV>Preparing\
            </AV></MS></Obj><S S=\"Error\">a &lt;b&gt; &amp;lt; _x0022__x005F_x_x000D__x000A_</S><S S=\"Error\">\
            _xD83E__xDD80_ü</S></Objs>after";
        assert_eq!(text(stderr), "before\na <b> &lt; \"_x\n🦀üafter");
    }

    #[test]
    fn a_document_that_is_cut_off_says_what_it_has() {
        assert_eq!(text("#< CLIXML\r\n<Objs><S S=\"Error\">half_x00"), "half_x00");
        assert_eq!(text("plain\r\ntext"), "plain\ntext");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(stderr in "(#< CLIXML|<S S=\"|Error\">|</S>|</Objs>|_x00|41_|&lt;|ü|🦀|x){0,20}") {
            text(&stderr);
        }
    }
}
