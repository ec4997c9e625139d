//! COM port control (RFC 2217): what is said, for both roles. A server's codes are the client's plus 100.
//!
//! A VM's port has no line settings: a server acknowledges what it is asked for and keeps it only to answer queries.

use super::codec::put_sub;
use super::option::COM_PORT;
use crate::bridge::line::{ControlRequest, LineChange};
use crate::model::{FlowControl, Parity, TtySettings};

const SIGNATURE: u8 = 0;
const SET_BAUDRATE: u8 = 1;
const SET_DATASIZE: u8 = 2;
const SET_PARITY: u8 = 3;
const SET_STOPSIZE: u8 = 4;
const SET_CONTROL: u8 = 5;
const NOTIFY_LINESTATE: u8 = 6;
const NOTIFY_MODEMSTATE: u8 = 7;
const FLOWCONTROL_SUSPEND: u8 = 8;
const FLOWCONTROL_RESUME: u8 = 9;
const SET_LINESTATE_MASK: u8 = 10;
const SET_MODEMSTATE_MASK: u8 = 11;
const PURGE_DATA: u8 = 12;
/// Added to a code when a server says it.
const OF_SERVER: u8 = 100;

/// Values of SET-CONTROL.
mod control {
    pub const QUERY_FLOW: u8 = 0;
    pub const NO_FLOW: u8 = 1;
    pub const XON_XOFF_FLOW: u8 = 2;
    pub const HARDWARE_FLOW: u8 = 3;
    pub const QUERY_BREAK: u8 = 4;
    pub const BREAK_ON: u8 = 5;
    pub const BREAK_OFF: u8 = 6;
    pub const QUERY_DTR: u8 = 7;
    pub const DTR_ON: u8 = 8;
    pub const DTR_OFF: u8 = 9;
    pub const QUERY_RTS: u8 = 10;
    pub const RTS_ON: u8 = 11;
    pub const RTS_OFF: u8 = 12;
    pub const QUERY_INBOUND_FLOW: u8 = 13;
    pub const NO_INBOUND_FLOW: u8 = 14;
    pub const HARDWARE_INBOUND_FLOW: u8 = 16;
    pub const DCD_FLOW: u8 = 17;
    pub const DSR_FLOW: u8 = 19;
}

/// Transmitter empty, holding register empty.
const LINE_IDLE: u8 = 0x60;
/// Carrier, data set ready, clear to send: a VM's port is always ready.
const MODEM_READY: u8 = 0xb0;

/// What follows from a subnegotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing beside the answer.
    None,
    /// The client asks the port for something.
    Request(ControlRequest),
    /// The other side wants no data (`true`), or wants them again.
    Suspend(bool),
}

/// The server's side: what it was told last.
#[derive(Debug)]
pub(super) struct Server {
    baud_rate: [u8; 4],
    data_size: u8,
    parity: u8,
    stop_size: u8,
    flow: u8,
    inbound_flow: u8,
    breaking: bool,
    dtr: bool,
    rts: bool,
}

impl Server {
    pub fn new() -> Self {
        Self {
            baud_rate: 115_200_u32.to_be_bytes(),
            data_size: 8,
            parity: 1,
            stop_size: 1,
            flow: control::NO_FLOW,
            inbound_flow: control::NO_INBOUND_FLOW,
            breaking: false,
            dtr: true,
            rts: true,
        }
    }

    /// Greets a client that agreed to RFC 2217: some ask for the modem's state only if they were told it once.
    pub fn greet(&self, wire: &mut Vec<u8>) {
        answer(NOTIFY_MODEMSTATE, &[MODEM_READY], wire);
    }

    /// Hears a client's subnegotiation and answers it.
    pub fn hear(&mut self, bytes: &[u8], wire: &mut Vec<u8>) -> Effect {
        let Some((&code, value)) = bytes.split_first() else {
            return Effect::None;
        };
        let setting = |kept: &mut u8, wire: &mut Vec<u8>| {
            // 0 asks for the setting.
            if let Some(&wanted @ 1..) = value.first() {
                *kept = wanted;
            }
            answer(code, &[*kept], wire);
        };
        match code {
            // With a text the client tells its own.
            SIGNATURE if value.is_empty() => {
                answer(
                    SIGNATURE,
                    concat!("vmserial ", env!("CARGO_PKG_VERSION")).as_bytes(),
                    wire,
                );
            }
            SET_BAUDRATE => {
                if let Ok(wanted) = <[u8; 4]>::try_from(value)
                    && wanted != [0; 4]
                {
                    self.baud_rate = wanted;
                }
                answer(SET_BAUDRATE, &self.baud_rate, wire);
            }
            SET_DATASIZE => setting(&mut self.data_size, wire),
            SET_PARITY => setting(&mut self.parity, wire),
            SET_STOPSIZE => setting(&mut self.stop_size, wire),
            SET_CONTROL => {
                if let Some(&wanted) = value.first() {
                    return self.control(wanted, wire);
                }
            }
            NOTIFY_LINESTATE => answer(NOTIFY_LINESTATE, &[LINE_IDLE], wire),
            NOTIFY_MODEMSTATE => answer(NOTIFY_MODEMSTATE, &[MODEM_READY], wire),
            FLOWCONTROL_SUSPEND => return Effect::Suspend(true),
            FLOWCONTROL_RESUME => return Effect::Suspend(false),
            // The states never change, so no mask is ever asked.
            SET_LINESTATE_MASK | SET_MODEMSTATE_MASK => answer(code, value, wire),
            // There is nothing to purge: bytes are with the guest or with the client.
            PURGE_DATA => answer(PURGE_DATA, value, wire),
            _ => {}
        }
        Effect::None
    }

    fn control(&mut self, wanted: u8, wire: &mut Vec<u8>) -> Effect {
        use control::*;
        let lines = |dtr, rts| Effect::Request(ControlRequest::SetLines(LineChange { dtr, rts }));
        let mut effect = Effect::None;
        let said = match wanted {
            QUERY_FLOW => self.flow,
            NO_FLOW..=HARDWARE_FLOW | DCD_FLOW..=DSR_FLOW => {
                self.flow = wanted;
                wanted
            }
            QUERY_BREAK if self.breaking => BREAK_ON,
            QUERY_BREAK => BREAK_OFF,
            BREAK_ON => {
                self.breaking = true;
                effect = Effect::Request(ControlRequest::Break);
                wanted
            }
            BREAK_OFF => {
                self.breaking = false;
                wanted
            }
            QUERY_DTR if self.dtr => DTR_ON,
            QUERY_DTR => DTR_OFF,
            DTR_ON | DTR_OFF => {
                self.dtr = wanted == DTR_ON;
                effect = lines(Some(self.dtr), None);
                wanted
            }
            QUERY_RTS if self.rts => RTS_ON,
            QUERY_RTS => RTS_OFF,
            RTS_ON | RTS_OFF => {
                self.rts = wanted == RTS_ON;
                effect = lines(None, Some(self.rts));
                wanted
            }
            QUERY_INBOUND_FLOW => self.inbound_flow,
            NO_INBOUND_FLOW..=HARDWARE_INBOUND_FLOW => {
                self.inbound_flow = wanted;
                wanted
            }
            _ => return Effect::None,
        };
        answer(SET_CONTROL, &[said], wire);
        effect
    }
}

fn answer(code: u8, value: &[u8], wire: &mut Vec<u8>) {
    let mut bytes = vec![code + OF_SERVER];
    bytes.extend_from_slice(value);
    put_sub(COM_PORT, &bytes, wire);
}

/// The client's side: what the server told of its line.
#[derive(Debug, Default)]
pub(super) struct Client {
    settings: TtySettings,
    line_state: u8,
    modem_state: u8,
}

impl Client {
    pub fn new(settings: TtySettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Sets the line of a server that agreed to RFC 2217; what is not written stays as it is.
    pub fn greet(&self, wire: &mut Vec<u8>) {
        let wanted = self.settings;
        let parity = wanted.parity.map(|parity| match parity {
            Parity::None => 1,
            Parity::Odd => 2,
            Parity::Even => 3,
        });
        let flow = wanted.flow.map(|flow| match flow {
            FlowControl::None => control::NO_FLOW,
            FlowControl::XonXoff => control::XON_XOFF_FLOW,
            FlowControl::RtsCts => control::HARDWARE_FLOW,
        });
        if let Some(rate) = wanted.baud_rate {
            let [a, b, c, d] = rate.to_be_bytes();
            put_sub(COM_PORT, &[SET_BAUDRATE, a, b, c, d], wire);
        }
        for (code, value) in [
            (SET_DATASIZE, wanted.data_bits),
            (SET_PARITY, parity),
            (SET_STOPSIZE, wanted.stop_bits),
            (SET_CONTROL, flow),
        ] {
            if let Some(value) = value {
                put_sub(COM_PORT, &[code, value], wire);
            }
        }
    }

    /// Hears a server's subnegotiation.
    pub fn hear(&mut self, bytes: &[u8], wire: &mut Vec<u8>) -> Effect {
        let Some((&code, value)) = bytes.split_first() else {
            return Effect::None;
        };
        match (code.wrapping_sub(OF_SERVER), value.first()) {
            (NOTIFY_LINESTATE, Some(&state)) => {
                self.line_state = state;
                tracing::debug!(state, "RFC 2217: line state");
            }
            (NOTIFY_MODEMSTATE, Some(&state)) => {
                self.modem_state = state;
                tracing::debug!(state, "RFC 2217: modem state");
            }
            (SIGNATURE, None) => {
                let mut bytes = vec![SIGNATURE];
                bytes.extend_from_slice(concat!("vmserial ", env!("CARGO_PKG_VERSION")).as_bytes());
                put_sub(COM_PORT, &bytes, wire);
            }
            (FLOWCONTROL_SUSPEND, _) => return Effect::Suspend(true),
            (FLOWCONTROL_RESUME, _) => return Effect::Suspend(false),
            _ => {}
        }
        Effect::None
    }
}

/// Begins or ends a BREAK on the server's line.
pub(super) fn put_break(on: bool, wire: &mut Vec<u8>) {
    let value = if on { control::BREAK_ON } else { control::BREAK_OFF };
    put_sub(COM_PORT, &[SET_CONTROL, value], wire);
}

/// Raises or drops the server's lines.
pub(super) fn put_lines(change: LineChange, wire: &mut Vec<u8>) {
    let dtr = change
        .dtr
        .map(|on| if on { control::DTR_ON } else { control::DTR_OFF });
    let rts = change
        .rts
        .map(|on| if on { control::RTS_ON } else { control::RTS_OFF });
    for value in dtr.into_iter().chain(rts) {
        put_sub(COM_PORT, &[SET_CONTROL, value], wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        put_sub(COM_PORT, bytes, &mut wire);
        wire
    }

    #[test]
    fn a_server_acknowledges_with_the_value_that_was_asked_for() {
        let mut server = Server::new();
        let lines = |dtr, rts| Effect::Request(ControlRequest::SetLines(LineChange { dtr, rts }));
        let brk = Effect::Request(ControlRequest::Break);
        let table: &[(&[u8], &[u8], Effect)] = &[
            (&[1, 0, 0, 0, 0], &[101, 0, 1, 0xc2, 0], Effect::None),
            (&[1, 0, 0, 0x25, 0x80], &[101, 0, 0, 0x25, 0x80], Effect::None),
            (&[1, 0, 0, 0, 0], &[101, 0, 0, 0x25, 0x80], Effect::None),
            (&[1, 9], &[101, 0, 0, 0x25, 0x80], Effect::None),
            (&[2, 7], &[102, 7], Effect::None),
            (&[2, 0], &[102, 7], Effect::None),
            (&[3, 3], &[103, 3], Effect::None),
            (&[4, 2], &[104, 2], Effect::None),
            (&[5, 0], &[105, 1], Effect::None),
            (&[5, 3], &[105, 3], Effect::None),
            (&[5, 0], &[105, 3], Effect::None),
            (&[5, 4], &[105, 6], Effect::None),
            (&[5, 5], &[105, 5], brk),
            (&[5, 4], &[105, 5], Effect::None),
            (&[5, 6], &[105, 6], Effect::None),
            (&[5, 7], &[105, 8], Effect::None),
            (&[5, 9], &[105, 9], lines(Some(false), None)),
            (&[5, 7], &[105, 9], Effect::None),
            (&[5, 11], &[105, 11], lines(None, Some(true))),
            (&[5, 12], &[105, 12], lines(None, Some(false))),
            (&[5, 10], &[105, 12], Effect::None),
            (&[5, 13], &[105, 14], Effect::None),
            (&[5, 16], &[105, 16], Effect::None),
            (&[5, 17], &[105, 17], Effect::None),
            (&[6], &[106, 0x60], Effect::None),
            (&[7], &[107, 0xb0], Effect::None),
            (&[10, 0xff], &[110, 0xff], Effect::None),
            (&[11, 0], &[111, 0], Effect::None),
            (&[12, 3], &[112, 3], Effect::None),
        ];
        for (asked, said, effect) in table {
            let mut wire = Vec::new();
            assert_eq!(server.hear(asked, &mut wire), *effect, "{asked:?}");
            assert_eq!(wire, framed(said), "{asked:?}");
        }
        // Not answered.
        for (asked, effect) in [
            (&[8][..], Effect::Suspend(true)),
            (&[9], Effect::Suspend(false)),
            (b"\0minicom", Effect::None),
            (&[], Effect::None),
            (&[5], Effect::None),
            (&[5, 77], Effect::None),
            (&[99, 1], Effect::None),
        ] {
            let mut wire = Vec::new();
            assert_eq!(server.hear(asked, &mut wire), effect, "{asked:?}");
            assert!(wire.is_empty(), "{asked:?}");
        }
        let mut wire = Vec::new();
        server.hear(&[0], &mut wire);
        assert!(wire.starts_with(b"\xff\xfa\x2c\x64vmserial "), "{wire:?}");
    }

    #[test]
    fn a_client_keeps_what_it_is_told_and_obeys_flow_control() {
        let mut client = Client::default();
        let mut wire = Vec::new();
        assert_eq!(client.hear(&[106, 16], &mut wire), Effect::None);
        assert_eq!(client.hear(&[107, 0x30], &mut wire), Effect::None);
        assert_eq!((client.line_state, client.modem_state), (16, 0x30));
        assert_eq!(client.hear(&[108], &mut wire), Effect::Suspend(true));
        assert_eq!(client.hear(&[109], &mut wire), Effect::Suspend(false));
        assert_eq!(client.hear(&[105, 1], &mut wire), Effect::None);
        assert_eq!(client.hear(&[], &mut wire), Effect::None);
        assert!(wire.is_empty());
        client.hear(&[100], &mut wire);
        assert!(wire.starts_with(b"\xff\xfa\x2c\0vmserial "), "{wire:?}");
    }

    #[test]
    fn a_client_sets_what_is_written_and_nothing_else() {
        let mut wire = Vec::new();
        Client::new(TtySettings::default()).greet(&mut wire);
        assert_eq!(wire, b"");
        let settings = TtySettings {
            baud_rate: Some(9600),
            data_bits: Some(7),
            parity: Some(Parity::Even),
            stop_bits: Some(2),
            flow: Some(FlowControl::RtsCts),
        };
        Client::new(settings).greet(&mut wire);
        let said: [&[u8]; 5] = [&[1, 0, 0, 0x25, 0x80], &[2, 7], &[3, 3], &[4, 2], &[5, 3]];
        let said: Vec<u8> = said.iter().flat_map(|bytes| framed(bytes)).collect();
        assert_eq!(wire, said);
    }

    #[test]
    fn what_a_client_says() {
        let mut wire = Vec::new();
        put_break(true, &mut wire);
        put_break(false, &mut wire);
        let change = LineChange {
            dtr: Some(false),
            rts: Some(true),
        };
        put_lines(change, &mut wire);
        let said: Vec<u8> = [[5, 5], [5, 6], [5, 9], [5, 11]]
            .iter()
            .flat_map(|bytes| framed(bytes))
            .collect();
        assert_eq!(wire, said);
    }
}
