//! The administration console (SAC) on a real socket: a stand-in that keeps state, echoes, draws prompts, floods, loses answers, and is
//! started again in the middle.

use super::Lab;
use crate::kit::{Ended, Sandbox, is_fast, wait_until};
use libtest_mimic::{Completion, Failed, Trial};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use vmserial::model::Digest;
use vmserial_testkit::windows_guest::{self, CURRENT, Guest};

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 4] = [
        ("over_sac_it_is_set_up_and_taken_back", set_up_and_undo),
        (
            "over_sac_floods_and_lost_answers_change_nothing",
            floods_and_losses,
        ),
        ("over_sac_a_wrong_password_is_told", wrong_password),
        ("over_sac_a_reboot_in_the_middle_is_told", reboot_in_the_middle),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("guest_windows::{name}"), move || {
            if is_fast() {
                let reason = "dialogues over a console are left out (VMSERIAL_TEST_FAST=1)";
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok::<_, Failed>(Completion::Completed)
        })
    };
    all.into_iter().map(trial).collect()
}

/// How the console behaves.
#[derive(Default)]
struct Manners {
    /// Messages stand before and behind every answer.
    flood: bool,
    /// Every so many answers are lost.
    loses: usize,
    /// Windows starts again when this is typed.
    reboots_at: String,
    /// Everything that was typed.
    typed: Vec<String>,
}

#[derive(Clone, PartialEq)]
enum Place {
    Sac,
    Card,
    User,
    Domain(String),
    Password(String),
    Prompt,
}

struct Console {
    state: PathBuf,
    manners: Arc<Mutex<Manners>>,
    place: Place,
    channels: usize,
    files: HashMap<String, Vec<u8>>,
    answers: usize,
}

const PROMPT: &str = "\r\nC:\\Windows\\system32>";

impl Console {
    fn key(&mut self) -> String {
        match self.place {
            Place::Card => {
                self.place = Place::User;
                "\r\nPlease enter login credentials.\r\nUsername: ".to_owned()
            }
            _ => String::new(),
        }
    }

    fn line(&mut self, line: &str) -> String {
        let at = {
            let mut manners = self.manners.lock().unwrap();
            manners.typed.push(line.to_owned());
            let at = manners.reboots_at.clone();
            if !at.is_empty() && line.contains(&at) {
                manners.reboots_at.clear();
            }
            at
        };
        if !at.is_empty() && line.contains(&at) {
            self.place = Place::Sac;
            self.files.clear();
            return "\r\nComputer is booting, SAC started and initialized.\r\nSAC>".to_owned();
        }
        match self.place.clone() {
            Place::Sac => match line {
                "" => "\r\nSAC>".to_owned(),
                "cmd" => {
                    self.channels += 1;
                    format!(
                        "\r\nThe Command Prompt session was successfully launched.\r\nSAC>\r\nEVENT:   A new channel has been created.  Use \"ch -?\" for channel help.\r\nChannel: Cmd{:04}\r\nSAC>",
                        self.channels
                    )
                }
                ch if ch == format!("ch -sn Cmd{:04}", self.channels) => {
                    self.place = Place::Card;
                    "\r\nName:                  Cmd0001\r\nType:                  VT-UTF8\r\nApplication Type GUID: 63d02271-8aa4-11d5-bccf-00b0d014a2d0\r\n\r\nPress <esc><tab> for next channel.\r\nUse any other key to view this channel.\r\n".to_owned()
                }
                _ => "\r\nUnrecognized command.\r\nSAC>".to_owned(),
            },
            Place::Card => self.key(),
            Place::User => {
                self.place = Place::Domain(line.to_owned());
                "\r\nDomain  : ".to_owned()
            }
            Place::Domain(user) => {
                self.place = Place::Password(user);
                "\r\nPassword: ".to_owned()
            }
            Place::Password(user) => {
                if (user.as_str(), line) == ("Administrator", "s3cret") {
                    self.place = Place::Prompt;
                    return format!("\x1b[2J\x1b[1;1HMicrosoft Windows [Version 10.0.20348.1]\r\n{PROMPT}");
                }
                self.place = Place::User;
                "\r\nThe username or password is incorrect.\r\n\r\nUsername: ".to_owned()
            }
            Place::Prompt => {
                let said = self.command(line);
                if self.place == Place::Sac {
                    return "\r\nSAC>".to_owned();
                }
                format!("\r\n{said}{PROMPT}")
            }
        }
    }

    /// What cmd.exe does with the lines that come here.
    fn command(&mut self, line: &str) -> String {
        let unescaped = |text: &str| text.replace("^<", "<").replace("^>", ">");
        if let Some(rest) = line.strip_prefix("cmd /v:on /c \"") {
            let (run, rest) = rest.split_once(" >").unwrap();
            let (file, rest) = rest.split_once(" 2>&1 & echo ").unwrap();
            let (frame, status_file) = rest.trim_end_matches('"').rsplit_once(" >").unwrap();
            let words: Vec<String> = run.split(' ').map(ToOwned::to_owned).collect();
            let (status, said) = windows_guest::run(&words, &self.state).unwrap();
            self.files.insert(file.to_owned(), said.into_bytes());
            let frame = unescaped(frame).replace("!errorlevel!", &status.to_string());
            self.files
                .insert(status_file.to_owned(), format!("{frame} \r\n").into_bytes());
            return String::new();
        }
        if let Some(file) = line.strip_prefix("type ") {
            return match self.files.get(file) {
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                None => "The system cannot find the file specified.\r\n".to_owned(),
            };
        }
        if let Some(rest) = line.strip_prefix("certutil -f -encode ") {
            let words: Vec<&str> = rest.split(' ').collect();
            let bytes = self.files.get(words[0]).cloned().unwrap_or_default();
            let digits = base64(&bytes);
            let mut lines: Vec<String> = vec!["-----BEGIN CERTIFICATE-----".to_owned()];
            lines.extend(
                digits
                    .as_bytes()
                    .chunks(64)
                    .map(|line| String::from_utf8_lossy(line).into_owned()),
            );
            lines.push("-----END CERTIFICATE-----".to_owned());
            self.files
                .insert(words[1].to_owned(), lines.join("\n").into_bytes());
            let (_, frame) = rest.split_once("@echo ").unwrap();
            return unescaped(frame).replace("%~zI", &bytes.len().to_string()) + "\r\n";
        }
        if let Some(rest) = line.strip_prefix("certutil -hashfile ") {
            let bytes = self
                .files
                .get(rest.trim_end_matches(" SHA256"))
                .cloned()
                .unwrap_or_default();
            return format!(
                "SHA256-Hash von {rest}:\r\n{}\r\nCertUtil: -hashfile-Befehl wurde erfolgreich ausgef\u{fc}hrt.\r\n",
                Digest::of(&bytes).as_str()
            );
        }
        if let Some(rest) = line.strip_prefix("findstr /n \"^\" ") {
            let (file, wanted) = rest.split_once(" | findstr /b ").unwrap();
            let wanted: Vec<&str> = wanted.trim_matches('"').split(' ').collect();
            let bytes = self.files.get(file).cloned().unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let numbered = text
                .lines()
                .enumerate()
                .map(|(index, line)| format!("{}:{line}", index + 1));
            return numbered
                .filter(|line| wanted.iter().any(|word| line.starts_with(word)))
                .map(|line| format!("{line}\r\n"))
                .collect();
        }
        if let Some(rest) = line.strip_prefix("echo ") {
            return unescaped(rest).replace("%OS%", "Windows_NT") + "\r\n";
        }
        if line.ends_with("& exit") {
            self.place = Place::Sac;
            return String::new();
        }
        format!(
            "'{line}' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"
        )
    }

    fn serve(mut self, listener: &UnixListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut line = Vec::new();
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                let answer = match (byte[0], &self.place) {
                    (b'\r', _) => {
                        let typed = String::from_utf8_lossy(&line).into_owned();
                        line.clear();
                        self.line(&typed)
                    }
                    (b' ', Place::Card) => self.key(),
                    (key, place) => {
                        line.push(key);
                        // Escape, Tab, 0: back to SAC, from every channel.
                        if line.ends_with(b"\x1b\t0") {
                            line.clear();
                            self.place = Place::Sac;
                            if self.say(&mut stream, true, "\r\nSAC>").is_none() {
                                break;
                            }
                            continue;
                        }
                        // It echoes, but not a password.
                        match place {
                            Place::Password(_) => continue,
                            _ => String::from(char::from(key)),
                        }
                    }
                };
                if self.say(&mut stream, byte[0] == b'\r', &answer).is_none() {
                    break;
                }
            }
        }
    }

    fn say(&mut self, stream: &mut UnixStream, is_answer: bool, answer: &str) -> Option<()> {
        let (flood, loses) = {
            let manners = self.manners.lock().unwrap();
            (manners.flood, manners.loses)
        };
        let mut text = answer.to_owned();
        if is_answer {
            self.answers += 1;
            if loses > 0 && self.place == Place::Prompt && self.answers.is_multiple_of(loses) {
                PROMPT.clone_into(&mut text);
            }
            if flood {
                let noise = "\r\nEVENT:   Kernel debugger noise 2: QUJD 0x0000001e <x:y>\r\n".repeat(5);
                text = format!("{noise}{text}");
            }
        }
        stream.write_all(text.as_bytes()).ok()
    }
}

fn base64(bytes: &[u8]) -> String {
    vmserial::model::base64::encode(bytes)
}

/// A guest behind a socket. The console's thread ends with the tests.
fn sac() -> (Lab, Arc<Mutex<Manners>>, String) {
    let sandbox = Sandbox::new().with("WIN_PW", "s3cret").with("WRONG_PW", "no");
    let state = sandbox.path("guest");
    Guest::default().write(&state).unwrap();
    let listener = UnixListener::bind(sandbox.path("com2")).unwrap();
    let manners = Arc::new(Mutex::new(Manners::default()));
    let console = Console {
        state: state.clone(),
        manners: Arc::clone(&manners),
        place: Place::Sac,
        channels: 0,
        files: HashMap::new(),
        answers: 0,
    };
    std::thread::spawn(move || console.serve(&listener));
    let way = format!(
        "--serial {} --user Administrator --password-env WIN_PW",
        sandbox.endpoint("connect:unix", "com2")
    );
    (Lab { sandbox, state }, manners, way)
}

fn is_quiet(ended: &Ended) {
    assert!(
        !format!("{}{}", ended.stdout, ended.stderr).contains("s3cret"),
        "{ended:?}"
    );
}

fn set_up_and_undo() {
    let (lab, manners, way) = sac();
    lab.change(|guest| "on".clone_into(&mut guest.bitlocker));
    let before = lab.guest();
    let applied = lab.done(&format!("-vv guest windows {way} --port 1 --yes"));
    assert_eq!(lab.guest().get(CURRENT, "debug"), Some("Yes"));
    assert_eq!(lab.guest().get("{dbgsettings}", "debugtype"), Some("Serial"));
    let undone = lab.done("-vv undo --yes");
    assert_eq!(lab.guest(), before);
    is_quiet(&applied);
    is_quiet(&undone);
    // Every channel that was opened is left again. The console may read the last line after its writer has gone.
    wait_until("every channel is left", || {
        let typed = &manners.lock().unwrap().typed;
        let left = typed.iter().filter(|line| line.ends_with("& exit")).count();
        let opened = typed.iter().filter(|line| *line == "cmd").count();
        (opened > 0 && left == opened).then_some(())
    });
}

fn floods_and_losses() {
    let (lab, manners, way) = sac();
    {
        let mut manners = manners.lock().unwrap();
        manners.flood = true;
        manners.loses = 5;
    }
    lab.change(|guest| "de".clone_into(&mut guest.language));
    let json = lab.done(&format!("guest windows {way} --show --json"));
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["facts"]["elevated"], true);
    assert_eq!(value["facts"]["current"]["elements"]["osdevice"], "partition=C:");
    assert_eq!(value["facts"]["bitlocker"], "off");
}

fn wrong_password() {
    let (lab, _, way) = sac();
    let ended = lab.run(&format!(
        "guest windows {} --show",
        way.replace("WIN_PW", "WRONG_PW")
    ));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stderr.contains("refused the login of `Administrator`"),
        "{ended:?}"
    );
    let nobody = lab.run(&format!(
        "guest windows --serial {} --show",
        lab.sandbox.endpoint("connect:unix", "com2")
    ));
    assert_eq!(nobody.code, Some(5), "{nobody:?}");
}

fn reboot_in_the_middle() {
    let (lab, manners, way) = sac();
    let before = lab.guest();
    "bcdedit /debug".clone_into(&mut manners.lock().unwrap().reboots_at);
    let ended = lab.run(&format!("guest windows {way} --port 1 --yes"));
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert!(ended.stderr.contains("started again"), "{ended:?}");
    assert_eq!(lab.guest().get("{dbgsettings}", "debugtype"), Some("Serial"));
    lab.done("undo --yes");
    assert_eq!(lab.guest(), before);
}
