//! One connection's telnet: bytes in; data, requests and answers out. No stream, no clock.

use super::codec::{BRK, Decoder, Heard, Mode, Verb, is_plain, put_command};
use super::com_port::{self, Client, Effect, Server};
use super::option::{BINARY, COM_PORT, ECHO, Options, Rule, SGA};
use crate::bridge::line::{ControlRequest, LineChange};
use crate::model::TtySettings;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Telnet.
    Telnet,
    /// Telnet with COM port control (RFC 2217); a client sets the server's line so.
    Rfc2217(TtySettings),
}

/// Which party we are: a server offers to echo, so that its client is a character terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// We were connected to.
    Server,
    /// We connected.
    Client,
}

#[derive(Debug)]
enum ComPort {
    Server(Server),
    Client(Client),
}

/// One connection's telnet.
#[derive(Debug)]
pub(super) struct Session {
    decoder: Decoder,
    options: Options,
    com_port: Option<ComPort>,
    greeted: bool,
    /// We ask for nothing before the other side has spoken telnet: a plain stream must stay one.
    waits_for_telnet: bool,
    /// What we have to say, as it is on the wire.
    replies: Vec<u8>,
    request: Option<ControlRequest>,
    suspended: bool,
}

impl Session {
    pub fn new(dialect: Dialect, party: Party) -> Self {
        let is_server = party == Party::Server;
        let settings = match dialect {
            Dialect::Telnet => None,
            Dialect::Rfc2217(settings) => Some(settings),
        };
        let with_com_port = settings.is_some();
        let mut rules: Vec<Rule> = vec![
            (ECHO, is_server, !is_server),
            (SGA, true, true),
            (BINARY, true, true),
        ];
        if with_com_port {
            // Either side may name it first; RFC 2217's client says WILL.
            rules.push((COM_PORT, !is_server, is_server));
        }
        let mut session = Self {
            decoder: Decoder::default(),
            options: Options::new(&rules),
            com_port: settings.map(|settings| match party {
                Party::Server => ComPort::Server(Server::new()),
                Party::Client => ComPort::Client(Client::new(settings)),
            }),
            greeted: false,
            waits_for_telnet: !is_server && !with_com_port,
            replies: Vec::new(),
            request: None,
            suspended: false,
        };
        if !session.waits_for_telnet {
            session.options.ask(&mut session.replies);
        }
        session
    }

    /// Tells whether received bytes are data as they are.
    pub fn receives_plain(&self, bytes: &[u8]) -> bool {
        let mode = self.options.receiving();
        self.decoder.passes(mode) && is_plain(bytes, mode)
    }

    /// Takes received bytes apart, in place, up to a request. Returns how many data bytes are now at the start of the
    /// buffer, and how many bytes were read.
    pub fn receive(&mut self, buffer: &mut [u8]) -> (usize, usize) {
        let (mut read, mut data) = (0, 0);
        while read < buffer.len() && self.request.is_none() {
            let step = self.decoder.decode(buffer, read, data, self.options.receiving());
            read += step.consumed;
            data += step.data;
            if let Some(heard) = step.heard {
                self.hear(heard);
            }
        }
        (data, read)
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Command(BRK) => self.request = Some(ControlRequest::Break),
            Heard::Command(_) => {}
            Heard::Option(verb, option) => self.hear_option(verb, option),
            Heard::Sub(COM_PORT, bytes) => {
                self.options.hear_use(COM_PORT);
                self.greet();
                let effect = match &mut self.com_port {
                    Some(ComPort::Server(server)) => server.hear(&bytes, &mut self.replies),
                    Some(ComPort::Client(client)) => client.hear(&bytes, &mut self.replies),
                    None => Effect::None,
                };
                match effect {
                    Effect::None => {}
                    Effect::Request(request) => self.request = Some(request),
                    Effect::Suspend(suspended) => self.suspended = suspended,
                }
            }
            Heard::Sub(..) => {}
        }
    }

    fn hear_option(&mut self, verb: Verb, option: u8) {
        self.options.hear(verb, option, &mut self.replies);
        if std::mem::take(&mut self.waits_for_telnet) {
            self.options.ask(&mut self.replies);
        }
        self.greet();
    }

    fn greet(&mut self) {
        if !self.greeted && self.options.is_on(COM_PORT) {
            self.greeted = true;
            match &self.com_port {
                Some(ComPort::Server(server)) => server.greet(&mut self.replies),
                Some(ComPort::Client(client)) => client.greet(&mut self.replies),
                None => {}
            }
        }
    }

    /// Takes what the other side asked for; only then are bytes behind it received.
    pub fn take_request(&mut self) -> Option<ControlRequest> {
        self.request.take()
    }

    pub fn has_request(&self) -> bool {
        self.request.is_some()
    }

    /// Moves what we have to say to `wire`.
    pub fn take_replies(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.replies);
    }

    /// Returns how data are written now.
    pub fn sending(&self) -> Mode {
        self.options.sending()
    }

    /// Tells whether the other side wants no data for now.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Tells whether the other side agreed to RFC 2217 (`Some(true)`), or does not want it; `None`: not known yet.
    pub fn com_port(&self) -> Option<bool> {
        if self.com_port.is_none() {
            return Some(false);
        }
        match (self.options.is_on(COM_PORT), self.options.is_refused(COM_PORT)) {
            (true, _) => Some(true),
            (false, refused) => refused.then_some(false),
        }
    }

    /// Says a telnet BREAK.
    pub fn put_telnet_break(wire: &mut Vec<u8>) {
        put_command(BRK, wire);
    }

    /// Begins or ends an RFC 2217 BREAK.
    pub fn put_com_port_break(on: bool, wire: &mut Vec<u8>) {
        com_port::put_break(on, wire);
    }

    /// Raises or drops the other side's lines.
    pub fn put_lines(change: LineChange, wire: &mut Vec<u8>) {
        com_port::put_lines(change, wire);
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{IAC, encode, put_option, put_sub};
    use super::*;
    use proptest::prelude::*;

    const RFC_2217: Dialect = Dialect::Rfc2217(TtySettings {
        baud_rate: None,
        data_bits: None,
        parity: None,
        stop_bits: None,
        flow: None,
    });

    fn all(session: &mut Session, wire: &[u8]) -> (Vec<u8>, Vec<(usize, ControlRequest)>, Vec<u8>) {
        pieces(session, &[wire])
    }

    fn pieces(session: &mut Session, wire: &[&[u8]]) -> (Vec<u8>, Vec<(usize, ControlRequest)>, Vec<u8>) {
        let (mut data, mut requests, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for piece in wire {
            let mut rest = piece.to_vec();
            while !rest.is_empty() {
                let (count, read) = session.receive(&mut rest);
                data.extend_from_slice(&rest[..count]);
                rest.drain(..read);
                requests.extend(session.take_request().map(|request| (data.len(), request)));
            }
        }
        session.take_replies(&mut replies);
        (data, requests, replies)
    }

    fn said(session: &mut Session) -> Vec<u8> {
        let mut wire = Vec::new();
        session.take_replies(&mut wire);
        wire
    }

    #[test]
    fn a_server_makes_its_client_a_character_terminal() {
        let mut session = Session::new(Dialect::Telnet, Party::Server);
        let opening = said(&mut session);
        assert_eq!(
            opening,
            b"\xff\xfb\x01\xff\xfb\x03\xff\xfd\x03\xff\xfb\x00\xff\xfd\x00"
        );
        // A client agrees, and offers its window and its name, which are refused.
        let (data, requests, replies) = all(
            &mut session,
            b"\xff\xfd\x01\xff\xfd\x03\xff\xfb\x03\xff\xfd\x00\xff\xfb\x00\xff\xfb\x1f\xff\xfb\x18ls\r\0\xff\xf3g",
        );
        assert_eq!(data, b"ls\r\0g");
        assert_eq!(requests, [(4, ControlRequest::Break)]);
        assert_eq!(replies, b"\xff\xfe\x1f\xff\xfe\x18");
    }

    #[test]
    fn a_client_that_refuses_binary_sends_cr_nul() {
        let mut session = Session::new(Dialect::Telnet, Party::Server);
        let (data, ..) = all(&mut session, b"\xff\xfe\x00\xff\xfc\x00ls\r\0\r\n");
        assert_eq!(data, b"ls\r\r\n");
        assert_eq!(session.sending(), Mode::Nvt);
    }

    #[test]
    fn a_client_says_nothing_to_a_plain_server() {
        let mut session = Session::new(Dialect::Telnet, Party::Client);
        assert_eq!(said(&mut session), b"");
        let (data, _, replies) = all(&mut session, b"login: \r\0\r\n");
        assert_eq!(data, b"login: \r\0\r\n");
        assert_eq!(replies, b"");
        // The first word of telnet (QEMU's opening) is answered, and what it did not speak of is asked for.
        let (_, _, replies) = all(&mut session, b"\xff\xfb\x01");
        assert_eq!(
            replies,
            b"\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03\xff\xfb\x00\xff\xfd\x00"
        );
        let (.., replies) = all(&mut session, b"\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00\xff\xfd\x01");
        assert_eq!(replies, b"\xff\xfc\x01");
    }

    #[test]
    fn a_client_sets_the_line_once_rfc_2217_is_agreed_on() {
        let settings = TtySettings {
            baud_rate: Some(65_535),
            ..TtySettings::default()
        };
        let mut session = Session::new(Dialect::Rfc2217(settings), Party::Client);
        said(&mut session);
        for set in [&b"\xff\xfa\x2c\x01\0\0\xff\xff\xff\xff\xff\xf0"[..], b""] {
            let (.., replies) = all(&mut session, b"\xff\xfd\x2c");
            assert_eq!(replies, set);
        }
    }

    #[test]
    fn rfc_2217_is_negotiated_served_and_refused() {
        let mut server = Session::new(RFC_2217, Party::Server);
        let mut client = Session::new(RFC_2217, Party::Client);
        assert_eq!(client.com_port(), None);
        let mut to_client = said(&mut server);
        let mut to_server = said(&mut client);
        for _ in 0..3 {
            let (.., answer) = all(&mut server, &std::mem::take(&mut to_server));
            to_client.extend(answer);
            let (.., answer) = all(&mut client, &std::mem::take(&mut to_client));
            to_server.extend(answer);
        }
        assert_eq!((server.com_port(), client.com_port()), (Some(true), Some(true)));
        let mut wire = Vec::new();
        Session::put_com_port_break(true, &mut wire);
        Session::put_com_port_break(false, &mut wire);
        let (_, requests, replies) = all(&mut server, &wire);
        assert_eq!(requests, [(0, ControlRequest::Break)]);
        assert_eq!(
            replies,
            b"\xff\xfa\x2c\x69\x05\xff\xf0\xff\xfa\x2c\x69\x06\xff\xf0"
        );
        let mut wire = Vec::new();
        put_sub(COM_PORT, &[8], &mut wire);
        all(&mut server, &wire);
        assert!(server.is_suspended());

        // A client that uses it has agreed to it.
        let mut server = Session::new(RFC_2217, Party::Server);
        said(&mut server);
        let (.., replies) = all(&mut server, b"\xff\xfa\x2c\x02\x07\xff\xf0");
        assert_eq!(
            replies,
            b"\xff\xfa\x2c\x6b\xb0\xff\xf0\xff\xfa\x2c\x66\x07\xff\xf0"
        );
        assert_eq!(server.com_port(), Some(true));

        let mut client = Session::new(RFC_2217, Party::Client);
        all(&mut client, b"\xff\xfe\x2c");
        assert_eq!(client.com_port(), Some(false));
        assert_eq!(
            Session::new(Dialect::Telnet, Party::Client).com_port(),
            Some(false)
        );
    }

    /// Two sessions' conversations with data, options, subnegotiations and BREAKs in them.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(|data| {
                let mut wire = Vec::new();
                encode(&data, Mode::Binary, &mut wire);
                wire
            }),
            (0..4_usize, proptest::sample::select(vec![0, 1, 3, 24, 31, 44])).prop_map(|(verb, option)| {
                let verb = [Verb::Will, Verb::Wont, Verb::Do, Verb::Dont][verb];
                let mut wire = Vec::new();
                put_option(verb, option, &mut wire);
                wire
            }),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| {
                let mut wire = Vec::new();
                put_sub(COM_PORT, &bytes, &mut wire);
                wire
            }),
            Just(vec![IAC, BRK]),
        ];
        proptest::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(wire in conversation(), cuts in proptest::collection::vec(any::<usize>(), 0..10), is_server in any::<bool>(), com in any::<bool>()) {
            let make = || Session::new(
                if com { RFC_2217 } else { Dialect::Telnet },
                if is_server { Party::Server } else { Party::Client },
            );
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let split: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(pieces(&mut make(), &split), all(&mut make(), &wire));
        }
    }
}
