//! Commands through a console that breaks and loses answers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Our shell as it is in a guest: does each number once.
struct Shell {
    mark: String,
    files: HashMap<String, Vec<u8>>,
    done: u64,
    ran: u64,
    runs: usize,
    stdout: Vec<u8>,
    has_digests: bool,
}

impl Shell {
    fn new(stdout: &[u8]) -> Self {
        Self {
            mark: Mark::new(9).to_string(),
            files: HashMap::new(),
            done: 0,
            ran: 0,
            runs: 0,
            stdout: stdout.to_vec(),
            has_digests: true,
        }
    }

    /// Answers a line.
    fn line(&mut self, line: &str) -> String {
        let Some(rest) = line.strip_prefix(&format!("{}:", self.mark)) else {
            return String::new();
        };
        let (length, text) = rest.split_once(':').unwrap();
        if length.parse() != Ok(text.len()) {
            return format!("<{}:bad>\r\n", self.mark);
        }
        let words: Vec<&str> = text.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        let mark = &self.mark;
        match words[0] {
            "z" => {
                if self.done != number(1) {
                    self.files.clear();
                    self.done = number(1);
                }
                format!("<{mark}:k:{}>\r\n", words[1])
            }
            "w" => {
                if self.done != number(1) {
                    self.files
                        .entry(words[2].to_owned())
                        .or_default()
                        .extend_from_slice(words[3].as_bytes());
                    self.done = number(1);
                }
                format!("<{mark}:k:{}>\r\n", words[1])
            }
            "r" => {
                if self.ran != number(1) {
                    self.ran = number(1);
                    self.runs += 1;
                    let input = self
                        .files
                        .get("b")
                        .map(|text| base64::decode(std::str::from_utf8(text).unwrap()).unwrap());
                    self.files.insert("o".to_owned(), self.stdout.clone());
                    self.files.insert("e".to_owned(), input.unwrap_or_default());
                }
                let digest = |name: &str| match self.has_digests {
                    true => Digest::of(&self.files[name]).to_string(),
                    false => "-".to_owned(),
                };
                let size = |name: &str| self.files[name].len();
                format!(
                    "<{mark}:q:{}:3:{}:{}:{}:{}>\r\n",
                    words[1],
                    size("o"),
                    size("e"),
                    digest("o"),
                    digest("e")
                )
            }
            "g" => {
                let (skip, size) = (
                    usize::try_from(number(3)).unwrap(),
                    usize::try_from(number(4)).unwrap(),
                );
                let file = &self.files[words[2]];
                let piece = &file[(skip * size).min(file.len())..((skip + 1) * size).min(file.len())];
                let data = base64::encode(piece);
                format!("<{mark}:g:{}:{}:{data}>\r\n", words[1], data.len())
            }
            // A function, told by its number at the end.
            _ => format!("<{mark}:k:{}>\r\n", words.last().unwrap()),
        }
    }
}

/// Runs a command. `harm` changes each answer on its way.
fn run(
    shell: &mut Shell,
    input: &[u8],
    mut harm: impl FnMut(String) -> String,
) -> Result<Said, AgentFailure> {
    let mut agent = Agent::new(Mark::new(9));
    let mut now = Duration::ZERO;
    agent.begin(now, b"exec true\n", input);
    for _ in 0..20_000 {
        let typed = String::from_utf8(agent.take_output()).unwrap();
        if let Some(outcome) = agent.take_outcome() {
            return outcome;
        }
        let answers: Vec<String> = typed.lines().map(|line| harm(shell.line(line))).collect();
        if answers.iter().all(String::is_empty) {
            now = agent.deadline();
            agent.tick(now);
        }
        for answer in answers {
            agent.input(now, answer.as_bytes());
        }
    }
    panic!("it never ends");
}

fn said(stdout: &[u8], stderr: &[u8]) -> Result<Said, AgentFailure> {
    Ok(Said {
        status: 3,
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
    })
}

#[test]
fn a_command_s_output_comes_whole() {
    let long: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
    for stdout in [&b""[..], b"one\n", &[0xff; 3072], &long] {
        for has_digests in [true, false] {
            let mut shell = Shell {
                has_digests,
                ..Shell::new(stdout)
            };
            assert_eq!(run(&mut shell, b"input", |answer| answer), said(stdout, b"input"));
            assert_eq!(shell.runs, 1);
        }
    }
}

#[test]
fn lines_stay_short_enough_for_a_terminal() {
    let mut agent = Agent::new(Mark::new(9));
    agent.begin(Duration::ZERO, &[b'x'; 5000], b"");
    for _ in 0..20 {
        let typed = String::from_utf8(agent.take_output()).unwrap();
        assert!(typed.lines().all(|line| line.len() < 1000), "{typed}");
        agent.input(Duration::ZERO, Shell::new(b"").line(typed.trim_end()).as_bytes());
    }
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_nothing_runs_twice() {
    let mut count = 0;
    let mut shell = Shell::new(&[b'a'; 10_000]);
    let harm = |answer: String| {
        count += 1;
        if count % 3 == 0 { answer } else { String::new() }
    };
    assert_eq!(run(&mut shell, b"input", harm), said(&[b'a'; 10_000], b"input"));
    assert_eq!(shell.runs, 1);
}

#[test]
fn silence_and_a_reboot_are_told() {
    assert_eq!(
        run(&mut Shell::new(b""), b"", |_| String::new()),
        Err(AgentFailure::Silent)
    );
    let reboot = |_| "\r\nDebian GNU/Linux 12 dev ttyS0\r\n\r\ndev login: ".to_owned();
    assert_eq!(run(&mut Shell::new(b""), b"", reboot), Err(AgentFailure::Gone));
    let kdb = |_| "\r\nEntering kdb (current=0x0, pid 0)\r\n[0]kdb> ".to_owned();
    assert_eq!(run(&mut Shell::new(b""), b"", kdb), Err(AgentFailure::InDebugger));
    let echo = |_| format!("~ # {}:9:z 7\r\n", Mark::new(9));
    assert_eq!(run(&mut Shell::new(b""), b"", echo), Err(AgentFailure::Gone));
}

proptest! {
    /// Kernel messages at any place of any answer, and answers that are lost, change nothing of what comes out.
    #[test]
    fn a_flood_changes_nothing(
        stdout in proptest::collection::vec(any::<u8>(), 0..6000),
        harms in proptest::collection::vec((0u8..4, 0usize..5000), 1..40),
    ) {
        let mut harms = harms.into_iter();
        let mut shell = Shell::new(&stdout);
        let harm = |answer: String| match harms.next() {
            Some((0, _)) => String::new(),
            Some((1 | 2, at)) => {
                let at = at.min(answer.len());
                format!("{}[   12.345678] usb 1-1: new <high-speed> device\r\n{}", &answer[..at], &answer[at..])
            }
            _ => answer,
        };
        prop_assert_eq!(run(&mut shell, b"input", harm), said(&stdout, b"input"));
        prop_assert_eq!(shell.runs, 1);
    }
}
