//! What a console shows, as lines without a terminal's control sequences, and the prompts in it.

/// Something that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// getty's: a user's name.
    User,
    /// A password.
    Password,
    /// A new password must be chosen first.
    NewPassword,
    /// KDB's.
    Debugger,
    /// GRUB's, or its rescue shell's.
    BootLoader,
    /// A vmserial that is no more left its shell there.
    LeftOver,
}

/// What the shell of a vmserial says to lines that are not for it.
pub const IN_USE: &str = "vmserial is using this console";

/// Takes control sequences and other controls out, and ends lines at CR too.
pub fn plain(bytes: &[u8]) -> String {
    let mut text = String::new();
    let heard = String::from_utf8_lossy(bytes);
    let mut characters = heard.chars().peekable();
    while let Some(one) = characters.next() {
        match one {
            '\u{1b}' => match characters.next() {
                // CSI: up to its final byte.
                Some('[') => while characters.next().is_some_and(|next| !('@'..='~').contains(&next)) {},
                // OSC: a title, up to BEL or ESC \.
                Some(']') => {
                    while let Some(next) = characters.next() {
                        if next == '\u{7}' {
                            break;
                        }
                        if next == '\u{1b}' {
                            characters.next();
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\r' => {
                if characters.peek() != Some(&'\n') {
                    text.push('\n');
                }
            }
            '\n' | '\t' => text.push(one),
            one if one.is_control() => {}
            one => text.push(one),
        }
    }
    text
}

/// Takes the kernel's messages out, which come in the midst of what others write (`Passw[   12.345678] usb 1-1: new`, end of
/// line, `ord: `): what they cut in two is whole again.
pub fn without_kernel_messages(text: &str) -> String {
    let (mut rest, mut kept) = (text, String::new());
    while let Some(at) = rest.find('[') {
        let (before, message) = rest.split_at(at);
        kept.push_str(before);
        rest = if is_kernel_message(message) {
            message.split_once('\n').map_or("", |(_, behind)| behind)
        } else {
            kept.push('[');
            &message[1..]
        };
    }
    kept.push_str(rest);
    kept
}

/// The kernel's time stamp in front (`printk.time`): seconds and their fractions in brackets.
fn is_kernel_message(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix('[')
        .and_then(|text| text.split_once(']'))
        .and_then(|(time, _)| time.trim_start_matches(' ').split_once('.'))
        .is_some_and(|(seconds, fraction)| digits(seconds) && digits(fraction))
}

/// Finds the newest prompt. It need not end the text: kernel messages may have come behind it.
pub fn newest_prompt(text: &str) -> Option<Prompt> {
    text.lines().rev().find_map(prompt_of_line)
}

fn prompt_of_line(line: &str) -> Option<Prompt> {
    let lower = line.trim().to_lowercase();
    if lower.contains(IN_USE) {
        return Some(Prompt::LeftOver);
    }
    if [
        "new password:",
        "new unix password:",
        "current password:",
        "(current) unix password:",
    ]
    .iter()
    .any(|words| lower.contains(words))
    {
        return Some(Prompt::NewPassword);
    }
    if lower.contains("kdb>") {
        return Some(Prompt::Debugger);
    }
    if lower.starts_with("grub>") || lower.starts_with("grub rescue>") {
        return Some(Prompt::BootLoader);
    }
    // "Last login: Mon …" greets who is in already; a name with a colon behind it is getty's.
    if let Some(at) = lower.find("login:") {
        let before = &lower[..at];
        let is_word = before.is_empty() || before.ends_with(' ');
        if is_word && at < 80 && !before.ends_with("last ") && !before.contains('[') {
            return Some(Prompt::User);
        }
    }
    if let Some(at) = lower.find("password")
        && at < 40
        && lower[at..].contains(':')
        && !lower[..at].contains('[')
    {
        return Some(Prompt::Password);
    }
    // Other languages' ("Passwort:", "Mot de passe :") follow the name that was typed, which the login knows.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_known_also_with_kernel_messages_around() {
        use Prompt::{BootLoader, Debugger, LeftOver, NewPassword, Password, User};
        let table = [
            ("Debian GNU/Linux 12 dev ttyS0\r\n\r\ndev login: ", Some(User)),
            ("dev login: [   12.345678] usb 1-1: new device\r\n", Some(User)),
            ("dev login: root\r\nPassword: ", Some(Password)),
            ("Password: [    3.2] random: crng init done\r\n", Some(Password)),
            ("Password for root: ", Some(Password)),
            ("Last login: Mon Nov 17 on ttyS0\r\nroot@dev:~# ", None),
            ("\u{1b}[32mdev\u{1b}[0m login: ", Some(User)),
            ("[    1.0] systemd[1]: Started getty login: ttyS0\r\n", None),
            ("[0]kdb> ", Some(Debugger)),
            ("grub> ", Some(BootLoader)),
            (
                "You must change your password\r\nNew password: ",
                Some(NewPassword),
            ),
            (
                "vmserial is using this console; Ctrl-C ends that\r\n",
                Some(LeftOver),
            ),
            ("root@dev:~# ", None),
            ("", None),
        ];
        for (heard, expected) in table {
            assert_eq!(newest_prompt(&plain(heard.as_bytes())), expected, "{heard:?}");
        }
    }

    #[test]
    fn kernel_messages_are_taken_out_of_the_midst_of_a_word() {
        let table = [
            (
                "Passw[   12.345678] usb 1-1: new\n[12345.000001][    T1] more\nord: ",
                "Password: ",
            ),
            ("dev login: [   12.345678] half a mess", "dev login: "),
            (
                "[  OK  ] Started [a.b] x[1]\n[1.] [.2]\n",
                "[  OK  ] Started [a.b] x[1]\n[1.] [.2]\n",
            ),
            ("[", "["),
        ];
        for (heard, expected) in table {
            assert_eq!(without_kernel_messages(heard), expected, "{heard:?}");
        }
    }

    #[test]
    fn titles_and_colours_leave_nothing_behind() {
        assert_eq!(
            plain(b"\x1b]0;root@dev: ~\x07\x1b[01;32mroot\x1b[00m# \x1b[6n"),
            "root# "
        );
        assert_eq!(plain(b"a\rb\r\nc\x1b"), "a\nb\nc");
    }
}
