//! What the user's own configuration says of a host, as `ssh -G` prints it.

use std::time::Duration;

/// What becomes of a host whose key nobody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewHosts {
    /// Refused.
    Refuse,
    /// Asked on the terminal; refused without one.
    Ask,
    /// Taken and written down.
    Accept,
}

/// Which agent is asked for signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentPlace {
    /// The one of `$SSH_AUTH_SOCK`.
    Environment,
    /// None.
    None,
    /// The one behind this socket.
    Socket(String),
}

/// How a host is reached and trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name or address to connect to.
    pub host_name: String,
    /// TCP port.
    pub port: u16,
    /// User there.
    pub user: String,
    /// Private keys, in the order in which they are tried. `~` and tokens are filled in.
    pub identity_files: Vec<String>,
    /// Of the agent's keys only those of `identity_files`.
    pub identities_only: bool,
    /// Agent.
    pub agent: AgentPlace,
    /// Files with known hosts, the user's first. A new host is written to the first.
    pub known_hosts: Vec<String>,
    /// Under which name the host's key is known, if not its own.
    pub host_key_alias: Option<String>,
    /// What becomes of an unknown key.
    pub new_hosts: NewHosts,
    /// Names are written hashed.
    pub hash_known_hosts: bool,
    /// Hosts to go through, the first first.
    pub jumps: Vec<String>,
    /// How long the TCP connection may take.
    pub connect_timeout: Option<Duration>,
    /// Whether keys may be used.
    pub keys: bool,
    /// Whether a password may be used.
    pub password: bool,
    /// Whether the server's own questions may be answered.
    pub keyboard_interactive: bool,
    /// Nobody is asked anything.
    pub batch: bool,
    /// Settings that only the system's `ssh` serves, by name.
    pub beyond: Vec<&'static str>,
}

impl Settings {
    /// Reads what `ssh -G` printed. `home` is the user's folder, `destination` what was asked for.
    pub fn parse(printed: &str, destination: &str, home: &str) -> Self {
        let value = |key: &str| {
            printed.lines().find_map(|line| {
                let (name, value) = line.split_once(' ')?;
                name.eq_ignore_ascii_case(key).then(|| value.trim())
            })
        };
        let values = |key: &str| -> Vec<&str> {
            let lines = printed.lines().filter_map(|line| line.split_once(' '));
            lines
                .filter(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, value)| value.trim())
                .collect()
        };
        let is = |key: &str, word: &str| value(key).is_some_and(|value| value == word);
        let set = |key: &str| value(key).filter(|value| !value.is_empty() && *value != "none");
        let (user, host, port) = parts(destination);
        let host_name = set("hostname").unwrap_or(host).to_owned();
        let user = set("user").or(user).unwrap_or_default().to_owned();
        let port = set("port")
            .and_then(|port| port.parse().ok())
            .or(port)
            .unwrap_or(22);
        let fill = |text: &str| fill(text, home, &host_name, host, port, &user);
        let mut identity_files: Vec<String> = values("identityfile").into_iter().map(fill).collect();
        identity_files.retain(|file| file != "none");
        let mut known_hosts = Vec::new();
        for key in ["userknownhostsfile", "globalknownhostsfile"] {
            let files = set(key).map(|files| with_tilde(files, home)).unwrap_or_default();
            known_hosts.extend(files.split_whitespace().map(fill));
        }
        let agent = match value("identityagent") {
            None | Some("SSH_AUTH_SOCK" | "$SSH_AUTH_SOCK" | "") => AgentPlace::Environment,
            Some("none") => AgentPlace::None,
            Some(path) => AgentPlace::Socket(fill(path)),
        };
        let strict = value("stricthostkeychecking").unwrap_or("ask");
        let beyond = [
            ("proxycommand", "ProxyCommand"),
            ("revokedhostkeys", "RevokedHostKeys"),
            ("pkcs11provider", "PKCS11Provider"),
        ];
        Self {
            identity_files,
            identities_only: is("identitiesonly", "yes"),
            agent,
            known_hosts,
            host_key_alias: set("hostkeyalias").map(str::to_owned),
            new_hosts: match strict {
                "true" | "yes" => NewHosts::Refuse,
                "accept-new" | "false" | "no" | "off" => NewHosts::Accept,
                _ => NewHosts::Ask,
            },
            hash_known_hosts: is("hashknownhosts", "yes"),
            jumps: set("proxyjump")
                .map(|jumps| jumps.split(',').map(|jump| jump.trim().to_owned()).collect())
                .unwrap_or_default(),
            connect_timeout: set("connecttimeout")
                .and_then(|seconds| seconds.parse().ok())
                .filter(|&seconds| seconds > 0)
                .map(Duration::from_secs),
            keys: !matches!(value("pubkeyauthentication"), Some("no" | "false")),
            password: !is("passwordauthentication", "no"),
            keyboard_interactive: !is("kbdinteractiveauthentication", "no"),
            batch: is("batchmode", "yes"),
            beyond: beyond
                .into_iter()
                .filter(|(key, _)| set(key).is_some())
                .map(|(_, name)| name)
                .collect(),
            host_name,
            port,
            user,
        }
    }

    /// Returns the name under which the host's key is kept: `host`, `[host]:port`, or the alias.
    pub fn key_name(&self) -> String {
        match &self.host_key_alias {
            Some(alias) => alias.to_lowercase(),
            None if self.port == 22 => self.host_name.to_lowercase(),
            None => format!("[{}]:{}", self.host_name.to_lowercase(), self.port),
        }
    }
}

/// Takes `[user@]host[:port]` apart; an IPv6 address with a port stands in brackets.
pub fn parts(destination: &str) -> (Option<&str>, &str, Option<u16>) {
    let (user, rest) = match destination.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, destination),
    };
    if let Some((host, rest)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
        return (user, host, port);
    }
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (user, host, port.parse().ok()),
        _ => (user, rest, None),
    }
}

/// Writes the user's folder as `~` where it has blanks: files stand in a row, and nothing quotes them.
fn with_tilde(files: &str, home: &str) -> String {
    if !home.contains(char::is_whitespace) {
        return files.to_owned();
    }
    let posix = home.replace('\\', "/");
    [home, posix.as_str()]
        .into_iter()
        .fold(files.to_owned(), |files, home| {
            let files = files.replace(&format!("{home}/"), "~/");
            files.replace(&format!(r"{home}\"), "~/")
        })
}

/// Fills in `~` and the tokens that OpenSSH knows in file names (ssh_config(5), TOKENS).
fn fill(text: &str, home: &str, host_name: &str, written: &str, port: u16, user: &str) -> String {
    let text = match text.strip_prefix("~/").or_else(|| text.strip_prefix(r"~\")) {
        Some(rest) => format!("{home}/{rest}"),
        None => text.to_owned(),
    };
    let mut filled = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            filled.push(character);
            continue;
        }
        match rest.next() {
            Some('%') => filled.push('%'),
            Some('d') => filled.push_str(home),
            Some('h') => filled.push_str(host_name),
            Some('n') => filled.push_str(written),
            Some('p') => filled.push_str(&port.to_string()),
            Some('r') => filled.push_str(user),
            Some(other) => filled.extend(['%', other]),
            None => filled.push('%'),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_ssh_prints_is_read() {
        // OpenSSH 9.2, shortened.
        let printed = "host lab\nuser root\nhostname xcp1.lab\nport 2222\nbatchmode no\nconnecttimeout none\n\
             globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\nhashknownhosts yes\n\
             identitiesonly yes\nidentityagent ~/.agent\nidentityfile ~/.ssh/id_%h\nidentityfile %d/k\n\
             kbdinteractiveauthentication yes\npasswordauthentication no\nproxyjump me@gate:2200,inner\npubkeyauthentication true\n\
             stricthostkeychecking accept-new\nuserknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n";
        let settings = Settings::parse(printed, "lab", "/home/me");
        assert_eq!(
            (settings.host_name.as_str(), settings.port, settings.user.as_str()),
            ("xcp1.lab", 2222, "root")
        );
        assert_eq!(
            settings.identity_files,
            ["/home/me/.ssh/id_xcp1.lab", "/home/me/k"]
        );
        assert_eq!(settings.known_hosts.len(), 4);
        assert_eq!(settings.known_hosts[0], "/home/me/.ssh/known_hosts");
        assert_eq!(settings.agent, AgentPlace::Socket("/home/me/.agent".into()));
        assert_eq!(settings.new_hosts, NewHosts::Accept);
        assert_eq!(settings.jumps, ["me@gate:2200", "inner"]);
        assert_eq!(settings.connect_timeout, None);
        assert_eq!(settings.key_name(), "[xcp1.lab]:2222");
        assert!(settings.identities_only && settings.keys && settings.keyboard_interactive);
        assert!(settings.hash_known_hosts && !settings.password && !settings.batch);
        assert_eq!(settings.beyond, Vec::<&str>::new());
    }

    #[test]
    fn a_folder_with_blanks_stands_in_a_row_of_files() {
        let printed = "hostname h\nidentityfile C:\\Users\\A B\\.ssh\\id\nglobalknownhostsfile C:\\ProgramData\\ssh/known\n\
             userknownhostsfile C:\\Users\\A B/.ssh/known_hosts C:/Users/A B/.ssh/known_hosts2 ~\\own\n";
        let home = r"C:\Users\A B";
        let settings = Settings::parse(printed, "h", home);
        assert_eq!(
            settings.known_hosts,
            [
                r"C:\Users\A B/.ssh/known_hosts",
                r"C:\Users\A B/.ssh/known_hosts2",
                r"C:\Users\A B/own",
                r"C:\ProgramData\ssh/known",
            ]
        );
        assert_eq!(settings.identity_files, [r"C:\Users\A B\.ssh\id"]);
    }

    #[test]
    fn what_only_the_systems_ssh_serves_is_named() {
        let settings = Settings::parse(
            "hostname h\nproxycommand nc %h %p\nrevokedhostkeys none\n",
            "h",
            "/",
        );
        assert_eq!(settings.beyond, ["ProxyCommand"]);
    }

    #[test]
    fn without_the_program_the_destination_itself_tells() {
        for (destination, host, port, user, name) in [
            ("h", "h", 22, "", "h"),
            ("me@H:2222", "H", 2222, "me", "[h]:2222"),
            ("me@[::1]:2222", "::1", 2222, "me", "[::1]:2222"),
            ("::1", "::1", 22, "", "::1"),
            ("[::1]", "::1", 22, "", "::1"),
        ] {
            let settings = Settings::parse("", destination, "/home/me");
            assert_eq!(
                (settings.host_name.as_str(), settings.port, settings.user.as_str()),
                (host, port, user)
            );
            assert_eq!(settings.key_name(), name);
        }
        assert_eq!(
            Settings::parse("port 22\nuser a\n", "h", "/").agent,
            AgentPlace::Environment
        );
    }

    #[test]
    fn strictness_is_what_the_user_set() {
        for (word, expected) in [
            ("yes", NewHosts::Refuse),
            ("true", NewHosts::Refuse),
            ("ask", NewHosts::Ask),
            ("no", NewHosts::Accept),
            ("off", NewHosts::Accept),
        ] {
            let printed = format!("stricthostkeychecking {word}\n");
            assert_eq!(Settings::parse(&printed, "h", "/").new_hosts, expected, "{word}");
        }
        assert_eq!(parts("a@b@c").0.unwrap(), "a@b");
    }
}
