//! Proves who we are: every key of the agent, key files, then passwords, from the profile or the terminal.

use super::drive::Drive;
use super::prompt::Terminal;
use super::settings::{AgentPlace, Settings};
use super::sys;
use crate::model::{FailureKind, Problem};
use crate::runner::secret::SecretText;
use ssh2::{ErrorCode, KeyboardInteractivePrompt, Prompt};
use std::path::Path;

/// What is typed may be mistyped twice.
const TYPED_TRIES: usize = 3;

/// sshd ends the connection after six (its MaxAuthTries); each key counts.
const TOO_MANY: &str = "Too many authentication failures";

const NO_ANSWER: &str = "the agent, which does not answer";

const NOBODY_TO_ASK: &str = "no password: the profile has none, and there is no terminal to ask on";

/// What one proves oneself with.
pub struct Means<'a> {
    /// The user's settings.
    pub settings: &'a Settings,
    /// Name of the host as it is told to people.
    pub host: &'a str,
    /// The password of the profile, if it has one. Fetched only when a host asks for it.
    pub password: &'a dyn Fn() -> Result<Option<SecretText>, Problem>,
    /// The terminal, if somebody can be asked.
    pub terminal: Option<&'a Terminal<'a>>,
}

/// What was tried, for the refusal.
#[derive(Default)]
struct Tried(Vec<String>);

/// Logs in: keys, then the host's questions, then a password, as OpenSSH does.
///
/// # Errors
///
/// Precondition, with all that was tried; the loss of the connection.
pub fn log_in(drive: &Drive<'_>, means: &Means<'_>) -> Result<(), Problem> {
    let Some(mut methods) = offered(drive, means)? else {
        return Ok(());
    };
    let mut tried = Tried::default();
    if offers(&methods, "publickey") && means.settings.keys {
        if by_agent(drive, means, &mut tried)? || by_files(drive, means, &mut tried)? {
            return Ok(());
        }
        // A host that wants a key and a password offers the second when it has the first.
        if !offers(&methods, "password") && !offers(&methods, "keyboard-interactive") {
            methods = match offered(drive, means)? {
                Some(now) => now,
                None => return Ok(()),
            };
        }
    }
    let by_password = means.settings.password && offers(&methods, "password");
    let by_questions = means.settings.keyboard_interactive && offers(&methods, "keyboard-interactive");
    if by_password || by_questions {
        let given = (means.password)()?;
        if given.is_none() && means.terminal.is_none() {
            tried.0.push(NOBODY_TO_ASK.to_owned());
        } else {
            if by_questions && with_questions(drive, means, given.as_ref(), &mut tried)? {
                return Ok(());
            }
            // Who was asked at the terminal is not asked for the same thing again.
            let asked = by_questions && given.is_none();
            if by_password && !asked && with_password(drive, means, given.as_ref(), &mut tried)? {
                return Ok(());
            }
        }
    }
    if means.terminal.is_some_and(Terminal::was_interrupted) {
        let message = format!("the login to `{}` was interrupted", means.host);
        return Err(Problem::new(FailureKind::Interrupted, message));
    }
    let tried = match tried.0.as_slice() {
        [] => "nothing could be tried".to_owned(),
        tried => format!("tried {}", tried.join(", ")),
    };
    let message = format!(
        "`{}` does not let `{}` in: it offers {methods}; {tried}",
        means.host, means.settings.user
    );
    Err(Problem::new(FailureKind::Precondition, message)
        .hint(format!(
            "Check by hand with `ssh {}`; a key is made known there with `ssh-copy-id {}`.",
            means.host, means.host
        ))
        .hint(
            "A password comes from the host's `password: {env: NAME}` in the profile, or from the terminal.",
        ))
}

/// Asks the host how one may log in now; `None` if it takes everybody.
fn offered(drive: &Drive<'_>, means: &Means<'_>) -> Result<Option<String>, Problem> {
    let user = means.settings.user.as_str();
    match drive.run("the ways to log in", |session| {
        session.auth_methods(user).map(str::to_owned)
    })? {
        Ok(methods) => Ok(Some(methods)),
        Err(_) if drive.session.authenticated() => Ok(None),
        Err(error) => Err(drive.lost(&error)),
    }
}

fn offers(methods: &str, name: &str) -> bool {
    methods.split(',').any(|method| method == name)
}

/// Runs one proof; `false` if the host does not take it.
fn prove(
    drive: &Drive<'_>,
    call: impl FnMut(&ssh2::Session) -> Result<(), ssh2::Error>,
) -> Result<bool, Problem> {
    match drive.run("the answer to a login", call)? {
        Ok(()) => Ok(drive.session.authenticated()),
        Err(error) => match error.code() {
            // LIBSSH2_ERROR_SOCKET_DISCONNECT, SOCKET_SEND, SOCKET_RECV.
            ErrorCode::Session(-13 | -7 | -43) => Err(drive
                .lost(&error)
                .hint(format!("If it says `{TOO_MANY}`: name the right key with `IdentityFile` and `IdentitiesOnly yes` in ~/.ssh/config."))),
            _ => Ok(false),
        },
    }
}

fn public_blob(path: &str) -> Option<Vec<u8>> {
    let public = std::fs::read_to_string(format!("{path}.pub")).ok();
    let key = match public.and_then(|text| ssh_key::PublicKey::from_openssh(text.trim()).ok()) {
        Some(key) => key,
        // An OpenSSH private key carries its public half in clear.
        None => ssh_key::PrivateKey::from_openssh(std::fs::read(path).ok()?)
            .ok()?
            .public_key()
            .clone(),
    };
    key.to_bytes().ok()
}

fn by_agent(drive: &Drive<'_>, means: &Means<'_>, tried: &mut Tried) -> Result<bool, Problem> {
    let socket = match &means.settings.agent {
        AgentPlace::None => return Ok(false),
        // Read here: how libssh2 reads it on Windows, not every C library does.
        AgentPlace::Environment => std::env::var("SSH_AUTH_SOCK")
            .ok()
            .filter(|path| !path.is_empty()),
        AgentPlace::Socket(path) => Some(path.clone()),
    };
    if socket.is_none() && !sys::HAS_USUAL_AGENT {
        return Ok(false);
    }
    let Ok(mut agent) = drive.session.agent() else {
        return Ok(false);
    };
    if let Some(path) = &socket
        && agent.set_identity_path(Path::new(path)).is_err()
    {
        return Ok(false);
    }
    if let Err(error) = agent.connect() {
        tracing::debug!(%error, "no agent answers");
        // One that nothing names need not be there.
        if socket.is_some() {
            tried.0.push(NO_ANSWER.to_owned());
        }
        return Ok(false);
    }
    let listed = drive.run("the agent's keys", |_| agent.list_identities())?;
    let mut identities = match listed.and_then(|()| agent.identities()) {
        Ok(identities) => identities,
        Err(error) => {
            tracing::debug!(%error, "the agent tells no keys");
            tried.0.push(NO_ANSWER.to_owned());
            return Ok(false);
        }
    };
    let configured: Vec<Vec<u8>> = means
        .settings
        .identity_files
        .iter()
        .filter_map(|file| public_blob(file))
        .collect();
    let is_configured = |blob: &[u8]| configured.iter().any(|known| known == blob);
    if means.settings.identities_only {
        identities.retain(|identity| is_configured(identity.blob()));
    }
    // The configured ones first, as OpenSSH does: each one counts against the host's limit.
    identities.sort_by_key(|identity| !is_configured(identity.blob()));
    let user = means.settings.user.as_str();
    for identity in &identities {
        if prove(drive, |_| agent.userauth(user, identity))? {
            return Ok(true);
        }
    }
    tried.0.push(match identities.len() {
        0 => "the agent, which has no key for it".to_owned(),
        1 => "the agent's key".to_owned(),
        count => format!("the agent's {count} keys"),
    });
    Ok(false)
}

fn is_encrypted(key: &str) -> bool {
    match ssh_key::PrivateKey::from_openssh(key) {
        Ok(key) => key.is_encrypted(),
        Err(_) => key.contains("ENCRYPTED"),
    }
}

fn by_files(drive: &Drive<'_>, means: &Means<'_>, tried: &mut Tried) -> Result<bool, Problem> {
    let user = means.settings.user.as_str();
    for file in &means.settings.identity_files {
        // Read here: libssh2 opens no file on Windows whose path has more than its code page.
        let Ok(key) = std::fs::read_to_string(file) else {
            continue;
        };
        if !is_encrypted(&key) {
            if prove(drive, |session| {
                session.userauth_pubkey_memory(user, None, &key, None)
            })? {
                return Ok(true);
            }
            tried.0.push(format!("`{file}`"));
            continue;
        }
        let Some(terminal) = means.terminal else {
            tried.0.push(format!(
                "`{file}` not, for it has a passphrase and there is no terminal to ask on"
            ));
            continue;
        };
        tried.0.push(format!("`{file}`"));
        for _ in 0..TYPED_TRIES {
            let question = format!("Passphrase for the key `{file}`: ");
            let Some(passphrase) = terminal.secret(&question).filter(|text| !text.is_empty()) else {
                break;
            };
            let passphrase = Some(passphrase.as_str());
            if prove(drive, |session| {
                session.userauth_pubkey_memory(user, None, &key, passphrase)
            })? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn with_password(
    drive: &Drive<'_>,
    means: &Means<'_>,
    given: Option<&SecretText>,
    tried: &mut Tried,
) -> Result<bool, Problem> {
    let user = means.settings.user.as_str();
    if let Some(given) = given {
        tried.0.push("the profile's password".to_owned());
        return prove(drive, |session| session.userauth_password(user, given.reveal()));
    }
    let Some(terminal) = means.terminal else {
        return Ok(false);
    };
    tried.0.push("a typed password".to_owned());
    let question = format!("Password of {user} on {}: ", means.host);
    for _ in 0..TYPED_TRIES {
        let Some(typed) = terminal.secret(&question).filter(|typed| !typed.is_empty()) else {
            break;
        };
        if prove(drive, |session| session.userauth_password(user, &typed))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Answers what the host asks: a question that is not to be shown with the password, all others at the terminal.
struct Answers<'a> {
    given: Option<&'a SecretText>,
    terminal: Option<&'a Terminal<'a>>,
    host: &'a str,
    unanswered: bool,
}

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'p>(&mut self, _user: &str, instructions: &str, prompts: &[Prompt<'p>]) -> Vec<String> {
        let mut heading = match instructions.trim() {
            "" => String::new(),
            text => format!("{text}\n"),
        };
        let mut answers = Vec::new();
        for prompt in prompts {
            let question = format!("{}{}: {}", std::mem::take(&mut heading), self.host, prompt.text);
            let answer = match (self.given, self.terminal) {
                (Some(given), _) if !prompt.echo => Some(given.reveal().to_owned()),
                (_, Some(terminal)) if prompt.echo => terminal.line(&question),
                (_, Some(terminal)) => terminal.secret(&question),
                _ => None,
            };
            // An empty line gives up, as it does for a password.
            self.unanswered |= answer.as_ref().is_none_or(String::is_empty);
            answers.push(answer.unwrap_or_default());
        }
        answers
    }
}

fn with_questions(
    drive: &Drive<'_>,
    means: &Means<'_>,
    given: Option<&SecretText>,
    tried: &mut Tried,
) -> Result<bool, Problem> {
    let user = means.settings.user.as_str();
    tried.0.push(match given {
        Some(_) => "the profile's password as the answer to its questions".to_owned(),
        None => "typed answers to its questions".to_owned(),
    });
    let tries = if given.is_some() { 1 } else { TYPED_TRIES };
    for _ in 0..tries {
        let mut answers = Answers {
            given,
            terminal: means.terminal,
            host: means.host,
            unanswered: false,
        };
        if prove(drive, |session| {
            session.userauth_keyboard_interactive(user, &mut answers)
        })? {
            return Ok(true);
        }
        if answers.unanswered {
            break;
        }
    }
    Ok(false)
}
