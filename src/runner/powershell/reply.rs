//! What a script of ours answered: one JSON object between the markers of its call.

use super::clixml;
use crate::model::HostRef;
use crate::runner::local::tail;
use crate::runner::{Output, RunError, Status};
use serde_json::Value;

/// What the caller knows of its call.
pub struct Asked<'a> {
    /// The script's name, for messages.
    pub script: &'a str,
    /// The digits in its markers.
    pub nonce: &'a str,
    /// Where it ran.
    pub host: &'a HostRef,
}

/// Reads the answer out of everything that PowerShell printed.
///
/// # Errors
///
/// [`RunError::Script`] with what the script threw; [`RunError::Failed`] with PowerShell's last words if there is no
/// whole answer.
pub fn read(asked: &Asked<'_>, output: &Output) -> Result<Value, RunError> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let (begin, end) = (
        format!("<vmserial-{}>", asked.nonce),
        format!("</vmserial-{}>", asked.nonce),
    );
    let between = stdout
        .split_once(begin.as_str())
        .and_then(|(_, rest)| rest.split_once(end.as_str()))
        .map(|(between, _)| between);
    // The JSON has no line breaks of its own: those that are here, a console put in.
    let reply = between.map(|text| text.replace(['\r', '\n'], ""));
    let reply: Option<Value> = reply.and_then(|text| serde_json::from_str(&text).ok());
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    match reply {
        Some(mut reply) if reply.get("result").is_some() && output.status == Status::Exited(0) => {
            Ok(reply["result"].take())
        }
        Some(reply) if reply.get("error").is_some() => Err(RunError::Script {
            message: text(&reply["error"], "message"),
            id: text(&reply["error"], "id"),
            category: text(&reply["error"], "category").into(),
            host: asked.host.clone(),
        }),
        _ => Err(RunError::Failed {
            invocation: format!("PowerShell script {}", asked.script),
            host: asked.host.clone(),
            status: output.status,
            tail: tail(last_words(output).as_bytes()),
        }),
    }
}

/// What PowerShell complained of; what it printed, if of nothing.
fn last_words(output: &Output) -> String {
    let stderr = clixml::text(&String::from_utf8_lossy(&output.stderr));
    let stdout = || String::from_utf8_lossy(&output.stdout);
    if stderr.trim().is_empty() {
        stdout().into_owned()
    } else {
        stderr
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::time::Duration;

    fn answer(stdout: &[u8], stderr: &str, code: i32) -> Result<Value, RunError> {
        let output = Output {
            status: Status::Exited(code),
            stdout: stdout.to_vec(),
            stderr: stderr.into(),
            elapsed: Duration::ZERO,
        };
        let asked = Asked {
            script: "host/versions",
            nonce: "7",
            host: &HostRef::Local,
        };
        read(&asked, &output)
    }

    #[test]
    fn an_answer_is_found_among_other_text() {
        let noise = b"\xff <vmserial-8>{}</vmserial-8>\r\n<vmserial-7>{\"result\":\r\n[1,nu\r\nll]}</vmserial-7>\r\nmore";
        assert_eq!(answer(noise, "", 0).unwrap(), serde_json::json!([1, null]));
        let null = b"<vmserial-7>{\"result\":null}</vmserial-7>";
        assert_eq!(answer(null, "", 0).unwrap(), Value::Null);
    }

    #[test]
    fn what_a_script_threw_comes_with_its_id() {
        let thrown = b"<vmserial-7>{\"error\":{\"message\":\"M\\u00fc\",\"id\":\"I,C\",\"category\":\"K\"}}</vmserial-7>";
        match answer(thrown, "", 1) {
            Err(RunError::Script {
                message,
                id,
                category,
                ..
            }) => assert_eq!((message.as_str(), id.as_str(), &*category), ("Mü", "I,C", "K")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_whole_answer_is_a_failure_with_the_last_words() {
        for (stdout, code) in [
            (&b""[..], 0),
            (b"<vmserial-7>{\"result\":1", 0),
            (b"<vmserial-7>{\"result\":1}</vmserial-8>", 0),
            (b"<vmserial-7>nonsense</vmserial-7>", 0),
            (b"<vmserial-7>{\"result\":1}</vmserial-7>", 3),
        ] {
            let error = answer(
                stdout,
                "#< CLIXML\r\n<Objs><S S=\"Error\">no_x000D__x000A_</S></Objs>",
                code,
            );
            let text = error.unwrap_err().to_string();
            assert!(
                text.starts_with("`PowerShell script host/versions`") && text.ends_with("\n    no"),
                "{text}"
            );
        }
        let text = answer(b"printed", " \r\n", 1).unwrap_err().to_string();
        assert!(text.ends_with("\n    printed"), "{text}");
    }
}
