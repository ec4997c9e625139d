//! What gdb's requests mean to the machine: which of them let the kernel run, plant a breakpoint or move its counter.

/// A request, as far as the machine cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `?`: kgdb takes it for a new gdb and forgets all breakpoints (`gdb_cmd_status` in kernel/debug/gdbstub.c).
    Status,
    /// `c`, `C`: run on.
    Continue,
    /// `s`, `S`: one instruction.
    Step,
    /// `k`: kgdb treats it as a detach and answers nothing.
    Kill,
    /// `D`: all breakpoints go, `OK`, and kgdb waits for the `+`.
    Detach,
    /// `R…`: the machine restarts.
    Restart,
    /// `3`: over to kdb, where the kernel has it.
    ToKdb,
    /// `Z0,ADDRESS,…`.
    Plant(u64),
    /// `z0,ADDRESS,…`.
    Unplant(u64),
    /// `P10=…` or `G…`: gdb has set the program counter itself.
    SetCounter,
    /// `QStartNoAckMode`.
    NoAcks,
    /// Anything else.
    Other,
}

impl Request {
    /// Reads a packet's data.
    pub fn of(data: &[u8]) -> Self {
        let Some((first, rest)) = data.split_first() else {
            return Self::Other;
        };
        match first {
            b'?' => Self::Status,
            b'c' | b'C' => Self::Continue,
            b's' | b'S' => Self::Step,
            b'k' => Self::Kill,
            b'D' => Self::Detach,
            b'R' => Self::Restart,
            b'3' if rest.is_empty() => Self::ToKdb,
            b'Z' => address(rest).map_or(Self::Other, Self::Plant),
            b'z' => address(rest).map_or(Self::Other, Self::Unplant),
            b'G' => Self::SetCounter,
            b'P' if rest.starts_with(b"10=") => Self::SetCounter,
            b'Q' if data == b"QStartNoAckMode" => Self::NoAcks,
            _ => Self::Other,
        }
    }

    /// Tells whether the kernel runs from the moment in which this goes out.
    pub fn resumes(self) -> bool {
        matches!(self, Self::Continue | Self::Step | Self::Kill)
    }
}

/// Reads the address of `0,ADDRESS,KIND`: software breakpoints only, since others leave nothing in the kernel's text.
fn address(rest: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(rest.strip_prefix(b"0,")?).ok()?;
    u64::from_str_radix(text.split(',').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let table: [(&str, Request); 16] = [
            ("?", Request::Status),
            ("c", Request::Continue),
            ("C09", Request::Continue),
            ("s", Request::Step),
            ("S05", Request::Step),
            ("k", Request::Kill),
            ("D", Request::Detach),
            ("R0", Request::Restart),
            ("3", Request::ToKdb),
            ("Z0,ffffffff8103a38d,1", Request::Plant(0xffff_ffff_8103_a38d)),
            ("z0,ffffffff8103a38d,1", Request::Unplant(0xffff_ffff_8103_a38d)),
            ("Z1,ffffffff8103a38d,1", Request::Other),
            ("P10=8da30381ffffffff", Request::SetCounter),
            ("P1=8da30381ffffffff", Request::Other),
            ("QStartNoAckMode", Request::NoAcks),
            ("", Request::Other),
        ];
        for (text, request) in table {
            assert_eq!(Request::of(text.as_bytes()), request, "{text}");
        }
    }
}
