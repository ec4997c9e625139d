//! Values of a `.vmx` file as text, and back to the same bytes.
//!
//! A file may be in any encoding. Where it is not UTF-8, bytes beyond ASCII become characters of a private range, one for
//! each byte, so that a value which was read and is written back (by an undo) has its own bytes again.

/// The private character of byte 0x00; bytes from 0x80 on are mapped.
const PRIVATE: u32 = 0xF700;

fn private(byte: u8) -> char {
    char::from_u32(PRIVATE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_private(character: char) -> bool {
    byte_of(character).is_some()
}

fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character).checked_sub(PRIVATE)?;
    u8::try_from(code).ok().filter(|byte| *byte >= 0x80)
}

/// Takes `|XX` back to its byte and the bytes to text. `utf8` tells whether the file says that it is UTF-8.
pub(super) fn decode(bytes: &[u8], utf8: bool) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'|').then(|| after.get(..2)).flatten();
        let code = code.and_then(|digits| hex(digits[0]).zip(hex(digits[1])));
        match code {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    match String::from_utf8(plain) {
        Ok(text) if text.is_ascii() || (utf8 && !text.chars().any(is_private)) => text,
        Ok(text) => text.into_bytes().into_iter().map(character).collect(),
        Err(error) => error.into_bytes().into_iter().map(character).collect(),
    }
}

fn character(byte: u8) -> char {
    if byte.is_ascii() {
        char::from(byte)
    } else {
        private(byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Returns the bytes of a text that [`decode`] gave or that somebody wrote.
///
/// # Errors
///
/// A character beyond ASCII where the file's encoding is not UTF-8: which bytes it has there is not known.
pub(super) fn encode(text: &str, utf8: bool) -> Result<Vec<u8>, char> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None if character.is_ascii() || utf8 => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => return Err(character),
        }
    }
    Ok(bytes)
}
