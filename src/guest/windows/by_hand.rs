//! Where there is no way into a guest: the lines that somebody types there, and what the wire shows when they worked.

use super::steps::WindowsWish;

/// Returns the lines to type in an elevated prompt: the same in `cmd.exe` and in PowerShell. The last one boots the guest again,
/// since its debugger begins with a boot.
pub fn lines(wish: &WindowsWish) -> Vec<String> {
    let mut lines = Vec::new();
    let guarded = wish.debug.is_some() || wish.boot_debug;
    if guarded && wish.suspend_bitlocker {
        lines.push(format!(
            "manage-bde -protectors -disable C: -RebootCount {}",
            wish.boots
        ));
    }
    if let Some((port, baud)) = wish.debug {
        lines.push(format!(
            "bcdedit /dbgsettings serial debugport:{port} baudrate:{baud}"
        ));
        lines.push("bcdedit /debug on".to_owned());
    }
    if wish.boot_debug {
        lines.push("bcdedit /bootdebug \"{bootmgr}\" on".to_owned());
        lines.push("bcdedit /bootdebug on".to_owned());
    }
    if let Some((port, baud)) = wish.ems {
        lines.push(format!("bcdedit /emssettings EMSPORT:{port} EMSBAUDRATE:{baud}"));
        lines.push("bcdedit /ems on".to_owned());
    }
    lines.push("shutdown /r /t 0".to_owned());
    lines
}

/// Tells whether what came over a port is a kernel's that speaks KD: a whole packet of it, data with its checksum or control. The
/// form is that of `windbgkd.h` (public WDK, ReactOS).
pub fn is_kd(heard: &[u8]) -> bool {
    (0..heard.len()).any(|at| packet(&heard[at..]).is_some())
}

fn packet(bytes: &[u8]) -> Option<()> {
    let leader = bytes.get(..4)?;
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let double = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (kind, length, sum) = (word(4)?, usize::from(word(6)?), double(12)?);
    match leader {
        // Acknowledge, resend, reset: without anything behind.
        b"iiii" => ((4..=6).contains(&kind) && length == 0).then_some(()),
        b"0000" => {
            let payload = bytes.get(16..16 + length)?;
            let own: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
            let whole = bytes.get(16 + length) == Some(&0xaa);
            ((1..=12).contains(&kind) && length > 0 && own == sum && whole).then_some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(payload: &[u8]) -> Vec<u8> {
        let sum: u32 = payload.iter().map(|byte| u32::from(*byte)).sum();
        let length = u16::try_from(payload.len()).unwrap_or_default();
        let head = [
            &b"0000"[..],
            &7u16.to_le_bytes(),
            &length.to_le_bytes(),
            &1u32.to_le_bytes(),
            &sum.to_le_bytes(),
        ];
        [head.concat(), payload.to_vec(), vec![0xaa]].concat()
    }

    const RESET: &[u8] = b"iiii\x06\x00\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00";

    #[test]
    fn the_lines_are_exact() {
        let wish = WindowsWish {
            debug: Some((1, 115_200)),
            boot_debug: true,
            ems: Some((2, 9600)),
            ..WindowsWish::default()
        };
        assert_eq!(
            lines(&wish),
            [
                "manage-bde -protectors -disable C: -RebootCount 1",
                "bcdedit /dbgsettings serial debugport:1 baudrate:115200",
                "bcdedit /debug on",
                "bcdedit /bootdebug \"{bootmgr}\" on",
                "bcdedit /bootdebug on",
                "bcdedit /emssettings EMSPORT:2 EMSBAUDRATE:9600",
                "bcdedit /ems on",
                "shutdown /r /t 0",
            ]
        );
    }

    #[test]
    fn a_kernel_that_speaks_kd_is_known_and_text_is_not() {
        assert!(is_kd(&data(b"state")));
        assert!(is_kd(&[b"noise 0000", &data(b"state")[..]].concat()));
        assert!(is_kd(&[b"boot\r\n", RESET].concat()));
        let mut broken = data(b"state");
        broken[17] ^= 1;
        assert!(!is_kd(&broken));
        let whole = data(b"state");
        assert!(!is_kd(&whole[..whole.len() - 1]));
        assert!(!is_kd(b"0000000000000000000000000000 iiiiiiiiiiiiiiiiiiiiii"));
        assert!(!is_kd(
            b"SAC>\r\nComputer is booting, SAC started and initialized.\r\n"
        ));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..40), payload in proptest::collection::vec(any::<u8>(), 1..40)) {
            is_kd(&noise);
            prop_assert!(is_kd(&[noise, data(&payload)].concat()));
        }
    }
}
