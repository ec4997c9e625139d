//! Recognises a kernel that stops in its debugger by what it prints on the console.

/// What a stopping kernel prints (kernel/debug/gdbstub.c, kernel/debug/kdb/kdb_main.c, drivers/tty/serial/kgdboc.c).
const SIGNS: [&[u8]; 4] = [
    b"KGDB: Entering KGDB",
    b"KGDB: Waiting for connection from remote gdb",
    b"KGDB or $3#33 for KDB",
    b"Entering kdb (",
];

/// Finds the signs in a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct BannerScanner {
    /// The end of what came before, shorter than the longest sign.
    tail: Vec<u8>,
}

impl BannerScanner {
    /// Takes the next piece and returns the first sign that ends in it.
    pub fn push(&mut self, bytes: &[u8]) -> Option<&'static str> {
        self.tail.extend_from_slice(bytes);
        let found = SIGNS
            .iter()
            .filter_map(|sign| {
                let at = self.tail.windows(sign.len()).position(|window| window == *sign)?;
                Some((at, *sign))
            })
            .min_by_key(|&(at, _)| at);
        let longest = SIGNS.iter().map(|sign| sign.len()).max().unwrap_or_default();
        let keep_from = match found {
            Some((at, sign)) => at + sign.len(),
            None => self.tail.len().saturating_sub(longest - 1),
        };
        self.tail.drain(..keep_from);
        found.and_then(|(_, sign)| std::str::from_utf8(sign).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sign_is_found_however_it_is_cut(before in "[a-z $#]{0,40}", cuts in proptest::collection::vec(1usize..9, 0..12)) {
            let text = format!("{before}sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n");
            let mut scanner = BannerScanner::default();
            let mut rest = text.as_bytes();
            let mut found = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                found.extend(scanner.push(piece));
                rest = after;
            }
            found.extend(scanner.push(rest));
            prop_assert_eq!(found, vec!["KGDB: Entering KGDB"]);
        }
    }

    #[test]
    fn ordinary_text_is_no_sign() {
        let mut scanner = BannerScanner::default();
        assert_eq!(
            scanner.push(b"kgdb: Registered I/O driver kgdboc\r\nEntering kdb soon"),
            None
        );
    }

    #[test]
    fn the_same_text_is_found_once() {
        let mut scanner = BannerScanner::default();
        assert!(scanner.push(b"KGDB: Entering KGDB").is_some());
        assert_eq!(scanner.push(b"\r\n"), None);
    }
}
