//! What `bcdedit` refuses, and what to do about it. It says so on standard output, with status 1 and nothing on standard error.

use super::program::{NOT_THERE, Said};
use crate::model::{FailureKind, Problem};
use serde::Serialize;

/// Why `bcdedit` did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Who asks is not elevated.
    AccessDenied,
    /// The value is kept by Secure Boot's policy.
    SecureBoot,
    /// There is no store where it looks: recovery environment, another disk.
    NoStore,
    /// There is no such program: it is no Windows.
    NoProgram(String),
    /// Anything else, also in another language: its own words.
    Other(String),
}

impl Refusal {
    /// Finds out what was refused. Sentences are translated, so a language that is not English gives [`Refusal::Other`], and the
    /// facts of a look (elevation, Secure Boot) tell the reason before anything is tried.
    pub fn of(said: &Said) -> Self {
        let text = &said.text;
        if said.status == NOT_THERE {
            return Self::NoProgram("bcdedit".to_owned());
        }
        if text.contains("Secure Boot policy") {
            return Self::SecureBoot;
        }
        if text.contains("Access is denied") {
            return Self::AccessDenied;
        }
        if text.contains("cannot find the file") {
            return Self::NoStore;
        }
        Self::Other(said.words())
    }

    /// Makes the problem of it, with the way on. `what` is what was tried.
    pub fn problem(&self, what: &str) -> Problem {
        match self {
            Self::AccessDenied => not_elevated(what),
            Self::SecureBoot => secure_boot(what),
            Self::NoStore => Problem::new(
                FailureKind::Precondition,
                format!("cannot {what}: the guest's boot configuration is not where bcdedit looks"),
            )
            .hint("Is it a recovery environment, or a disk that another system booted from? Boot the Windows that is to be debugged, and run this there."),
            Self::NoProgram(program) => Problem::new(
                FailureKind::Precondition,
                format!("cannot {what}: there is no `{program}` there, so it is no Windows"),
            )
            .hint("A Linux guest is prepared by `vmserial guest linux`."),
            Self::Other(words) => Problem::new(
                FailureKind::Host,
                format!("cannot {what}: bcdedit says: {words}"),
            )
            .hint("Refused by Secure Boot's policy or for missing rights? `vmserial guest windows --show` tells both, in every language."),
        }
    }
}

/// Who looks is not elevated.
pub fn not_elevated(what: &str) -> Problem {
    Problem::new(
        FailureKind::Precondition,
        format!("cannot {what}: boot settings are an elevated administrator's"),
    )
    .hint("Log in as an administrator: through SSH and PowerShell Direct such a login is elevated; with `--local` start the terminal by \"Run as administrator\".")
}

/// Secure Boot keeps the debugger off.
pub fn secure_boot(what: &str) -> Problem {
    Problem::new(
        FailureKind::Precondition,
        format!("cannot {what}: Secure Boot is on, and its policy protects these settings"),
    )
    .hint("Switch the VM's Secure Boot off while the VM is off (`vmserial setup hyperv` does it), then run this again.")
    .hint("BitLocker asks for its recovery key when Secure Boot changes: suspend it first (`manage-bde -protectors -disable C: -RebootCount 2`), or have the key ready.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: i64, text: &str) -> Refusal {
        Refusal::of(&Said {
            status,
            text: text.to_owned(),
        })
    }

    #[test]
    fn each_refusal_is_known_and_told_with_the_way_on() {
        let table = [
            (
                of(
                    1,
                    include_str!("../../../tests/data/windows/refused-secure-boot.en.txt"),
                ),
                Refusal::SecureBoot,
                "setup hyperv",
            ),
            (
                of(
                    1,
                    include_str!("../../../tests/data/windows/refused-access.en.txt"),
                ),
                Refusal::AccessDenied,
                "Run as administrator",
            ),
            (
                of(
                    1,
                    include_str!("../../../tests/data/windows/refused-store.en.txt"),
                ),
                Refusal::NoStore,
                "recovery environment",
            ),
            (
                of(9009, ""),
                Refusal::NoProgram("bcdedit".to_owned()),
                "guest linux",
            ),
            (
                of(1, "Der Wert ist geschützt.\r\n"),
                Refusal::Other("Der Wert ist geschützt.".to_owned()),
                "--show",
            ),
        ];
        for (found, expected, hint) in table {
            assert_eq!(found, expected);
            let problem = found.problem("switch debugging on");
            assert!(
                problem.message.starts_with("cannot switch debugging on: "),
                "{problem:?}"
            );
            assert!(problem.hints.concat().contains(hint), "{problem:?}");
        }
    }
}
