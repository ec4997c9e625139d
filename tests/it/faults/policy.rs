//! The policies as a fault meets them: what is said on each, and what its client may type while the target is away.

use crate::bridge_rig::random;

/// A conversation as a policy passes it on, and what it does while the target is away.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub name: &'static str,
    /// The client endpoint that is played, and what else is served.
    pub client: &'static str,
    pub beside: &'static [&'static str],
    /// So many bytes at once are kept at least, however slow the client.
    pub most: usize,
    /// Said first on each connection, turn by turn: the client's bytes, and what they become at the VM.
    pub greeting: fn() -> Vec<Turn>,
    /// A question and its answer of about so many bytes.
    pub talk: fn(usize) -> Turn,
    pub away: Away,
}

/// What a client types while the target is away.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Away {
    Dropped,
    RefusedWithANotice,
    AnsweredByUs,
}

/// One question and its answer. `None`: it does not pass.
pub(super) struct Turn {
    pub client_sends: Vec<u8>,
    pub vm_gets: Vec<u8>,
    pub vm_sends: Vec<u8>,
    pub client_gets: Vec<u8>,
}

pub(super) const POLICIES: [Policy; 5] = [
    Policy {
        name: "raw",
        client: "listen:unix",
        beside: &[],
        most: usize::MAX,
        greeting: Vec::new,
        talk: bytes,
        away: Away::Dropped,
    },
    Policy {
        name: "console",
        client: "listen:unix",
        beside: &[],
        most: usize::MAX,
        greeting: Vec::new,
        talk: bytes,
        away: Away::RefusedWithANotice,
    },
    Policy {
        name: "gdb",
        client: "listen:unix",
        beside: &[],
        most: usize::MAX,
        greeting: attach_gdb,
        talk: packets,
        away: Away::AnsweredByUs,
    },
    Policy {
        name: "console+gdb",
        client: "console=listen:unix",
        beside: &["gdb=listen:unix"],
        most: usize::MAX,
        greeting: Vec::new,
        talk: bytes,
        away: Away::RefusedWithANotice,
    },
    Policy {
        name: "kd",
        client: "kd=listen:unix",
        beside: &[],
        // The newest is dropped past 64 KiB.
        most: 48 << 10,
        greeting: Vec::new,
        talk: kd_packets,
        away: Away::Dropped,
    },
];

fn bytes(count: usize) -> Turn {
    let question = random(count / 10 + 1);
    let answer = random(count);
    Turn {
        client_sends: question.clone(),
        vm_gets: question,
        vm_sends: answer.clone(),
        client_gets: answer,
    }
}

pub(super) fn packet(text: &str) -> Vec<u8> {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    format!("${text}#{sum:02x}").into_bytes()
}

pub(super) fn acked(text: &str) -> Vec<u8> {
    [b"+", &*packet(text)].concat()
}

/// gdb's first packet waits until the kernel has shown that it is stopped: our probe is answered, then gdb's passes.
fn attach_gdb() -> Vec<Turn> {
    let stop = "T05thread:01;";
    vec![
        Turn {
            client_sends: packet("?"),
            vm_gets: packet("?"),
            vm_sends: acked(stop),
            client_gets: Vec::new(),
        },
        Turn {
            client_sends: Vec::new(),
            vm_gets: [b"+", &*packet("?")].concat(),
            vm_sends: acked(stop),
            client_gets: acked(stop),
        },
    ]
}

fn packets(count: usize) -> Turn {
    // kgdb's buffer has 2,048 bytes.
    let memory = "5a".repeat(count.min(2000) / 2);
    let question = [
        b"+",
        &*packet(&format!("mffffffff81000000,{:x}", memory.len() / 2)),
    ]
    .concat();
    Turn {
        client_sends: question.clone(),
        vm_gets: question,
        vm_sends: acked(&memory),
        client_gets: acked(&memory),
    }
}

/// A KD packet: `0000`, type, length, number, sum, payload, `AA`.
fn kd_packet(kind: u16, number: u32, payload: &[u8]) -> Vec<u8> {
    let sum: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
    [
        &b"0000"[..],
        &kind.to_le_bytes(),
        &u16::try_from(payload.len()).unwrap().to_le_bytes(),
        &number.to_le_bytes(),
        &sum.to_le_bytes(),
        payload,
        b"\xaa",
    ]
    .concat()
}

/// A request of WinDbg's for memory and its answer, in as many packets as it takes. All values of a byte are in them, those
/// of a packet's start too.
fn kd_packets(count: usize) -> Turn {
    const MANIPULATE: u16 = 2;
    const READ_VIRTUAL_MEMORY: u32 = 0x3130;
    const LONGEST: usize = 4000;
    let question = kd_packet(
        MANIPULATE,
        0x8080_0800,
        &[&READ_VIRTUAL_MEMORY.to_le_bytes()[..], &random(52)].concat(),
    );
    let mut answer = Vec::new();
    for (number, piece) in random(count).chunks(LONGEST).enumerate() {
        answer.extend(kd_packet(MANIPULATE, 0x8080_0000 | (number as u32 & 1), piece));
    }
    Turn {
        client_sends: question.clone(),
        vm_gets: question,
        vm_sends: answer.clone(),
        client_gets: answer,
    }
}
