//! Programs of a Windows guest as data: what is run, and what it said.

use crate::model::{ScriptCall, base64};
use serde_json::{Value, json};

/// The script that runs them. A runner that has no PowerShell behind it (a console) runs what is in it by itself.
pub const SCRIPT: &str = "windows/run";

/// Where its parameter is: lists of a program and its words.
pub const RUNS: &str = "runs";

/// What cmd.exe says of a program that is not there.
pub const NOT_THERE: i64 = 9009;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Its status.
    pub status: i64,
    /// Everything that it printed, on either stream.
    pub text: String,
}

impl Said {
    /// Returns the first line that says something, for messages.
    pub fn words(&self) -> String {
        let lines = self.text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.take(3).collect::<Vec<_>>().join(" ")
    }
}

/// Runs some programs, one after the other.
pub fn run(runs: &[Vec<String>]) -> ScriptCall {
    ScriptCall::new(SCRIPT).with(RUNS, json!(runs))
}

/// Runs one program with words that stand in the plan.
pub fn one<'a>(program: &str, words: impl IntoIterator<Item = &'a str>) -> ScriptCall {
    run(&[line(program, words)])
}

/// Runs one program with words of which no log knows.
pub fn hidden(run: &[String]) -> ScriptCall {
    ScriptCall::new(SCRIPT).with_secret(RUNS, json!([run]))
}

/// Returns a program and its words.
pub fn line<'a>(program: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(program.to_owned())
        .chain(words.into_iter().map(ToOwned::to_owned))
        .collect()
}

/// Returns what a call runs: for a runner that does it by itself.
pub fn runs(call: &ScriptCall) -> Option<Vec<Vec<String>>> {
    serde_json::from_value(call.all_parameters().get(RUNS)?.clone()).ok()
}

/// Writes the answer of such a runner.
pub fn answer(said: &[Said]) -> Value {
    let answers: Vec<Value> = said
        .iter()
        .map(|said| json!({ "status": said.status, "said": base64::encode(said.text.as_bytes()) }))
        .collect();
    json!({ "answers": answers })
}

/// Reads the answer of the script. `None`: it is none.
pub fn said(answer: &Value) -> Option<Vec<Said>> {
    let one = |answer: &Value| {
        let bytes = base64::decode(answer["said"].as_str()?)?;
        Some(Said {
            status: answer["status"].as_i64()?,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    };
    answer["answers"].as_array()?.iter().map(one).collect()
}

/// Tells whether a word goes through every shell on the way as it is: no quotes, no spaces, nothing that cmd.exe knows.
pub fn is_plain(word: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"{}:./\\_=-".contains(&byte);
    !word.is_empty() && word.bytes().all(known)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::render::powershell::cmdlet_lines;

    #[test]
    fn braces_are_quoted_where_people_read_them() {
        let call = one("bcdedit", ["/debug", "{current}", "on"]);
        assert_eq!(cmdlet_lines(&call), ["bcdedit.exe /debug '{current}' on"]);
        assert_eq!(runs(&call).unwrap()[0], ["bcdedit", "/debug", "{current}", "on"]);
        let secret = hidden(&line("bcdedit", ["/dbgsettings", "NET", "key:1.2.3.4"]));
        assert_eq!(cmdlet_lines(&secret), ["windows/run"]);
        assert_eq!(runs(&secret).unwrap()[0].len(), 4);
    }

    #[test]
    fn an_answer_is_read() {
        let value = json!({ "answers": [{ "status": 1, "said": base64::encode("Zugriff\r\nverweigert".as_bytes()) }] });
        let read = said(&value).unwrap();
        assert_eq!(
            (read[0].status, read[0].words().as_str()),
            (1, "Zugriff verweigert")
        );
        assert_eq!(answer(&read), value);
        assert_eq!(said(&json!({})), None);
        assert_eq!(said(&json!({ "answers": [{ "status": "x" }] })), None);
    }

    #[test]
    fn plain_words_need_no_quotes() {
        for word in [
            "/enum",
            "{current}",
            "debugport:1",
            r"HKLM\SYSTEM\x",
            "C:",
            "key:1a.2b.3c.4d",
        ] {
            assert!(is_plain(word), "{word}");
        }
        for word in [
            "", "a b", "a&b", "%x%", "\"", "ü", "a|b", "^", "a\nb", "x>y", "(", "!a!",
        ] {
            assert!(!is_plain(word), "{word}");
        }
    }
}
