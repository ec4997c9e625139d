//! What the target sent, kept by absolute offset: the first mebibyte (the boot log) and the latest four. Pure.
//!
//! Consoles read from here, each at its own offset, so that a slow one costs no memory and slows nobody down.

use std::collections::VecDeque;

/// Kept from the beginning of the stream: a whole Linux boot log with all drivers' messages is a few hundred kilobytes.
pub const FIRST_LIMIT: usize = 1 << 20;

/// Kept from the end of the stream: minutes of a console that is flooded at a UART's speed.
pub const LATEST_LIMIT: usize = 4 << 20;

/// The first chunk is small, since most ports of a lab are silent; each further one is twice as big, up to the last size.
const SMALLEST_CHUNK: usize = 4 << 10;
const BIGGEST_CHUNK: usize = 64 << 10;

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The kept parts of a stream.
#[derive(Debug)]
pub struct History {
    first: Vec<u8>,
    latest: VecDeque<Chunk>,
    latest_bytes: usize,
    end: u64,
    first_limit: usize,
    latest_limit: usize,
    spare: Option<Vec<u8>>,
}

/// A contiguous piece of a history.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes between the wanted offset and this piece that are not kept.
    pub skipped: u64,
    /// Absolute offset of the piece.
    pub offset: u64,
    /// The bytes; empty exactly at the end of the stream.
    pub bytes: &'a [u8],
}

impl Default for History {
    fn default() -> Self {
        Self::with_limits(FIRST_LIMIT, LATEST_LIMIT)
    }
}

impl History {
    /// Makes an empty history with other limits, in bytes.
    pub fn with_limits(first_limit: usize, latest_limit: usize) -> Self {
        Self {
            first: Vec::new(),
            latest: VecDeque::new(),
            latest_bytes: 0,
            end: 0,
            first_limit,
            latest_limit,
            spare: None,
        }
    }

    /// Returns the absolute offset of the end: how many bytes ever came.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns the offset from which on everything up to the end is kept.
    pub fn contiguous_from(&self) -> u64 {
        match self.latest.front() {
            Some(chunk) if chunk.start > self.first.len() as u64 => chunk.start,
            _ => 0,
        }
    }

    /// Returns how many bytes of memory the kept parts take.
    pub fn memory(&self) -> usize {
        let spare = self.spare.as_ref().map_or(0, Vec::capacity);
        let chunks: usize = self.latest.iter().map(|chunk| chunk.bytes.capacity()).sum();
        self.first.capacity() + chunks + spare
    }

    /// Appends bytes; the oldest of the latest part go when it is full.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let room = self.first_limit - self.first.len();
        if room > 0 {
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            self.first.extend_from_slice(head);
            self.end += head.len() as u64;
            bytes = rest;
        }
        while !bytes.is_empty() {
            if self
                .latest
                .back()
                .is_none_or(|chunk| chunk.bytes.len() == chunk.bytes.capacity())
            {
                let chunk = self.new_chunk();
                self.latest.push_back(chunk);
            }
            let chunk = self
                .latest
                .back_mut()
                .expect("a chunk was pushed when there was none");
            let room = chunk.bytes.capacity() - chunk.bytes.len();
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            chunk.bytes.extend_from_slice(head);
            self.latest_bytes += head.len();
            self.end += head.len() as u64;
            bytes = rest;
            while self.latest_bytes > self.latest_limit && self.latest.len() > 1 {
                let old = self.latest.pop_front().expect("there are two chunks");
                self.latest_bytes -= old.bytes.len();
                self.spare = Some(old.bytes);
            }
        }
    }

    fn new_chunk(&mut self) -> Chunk {
        let size = self
            .latest
            .back()
            .map_or(SMALLEST_CHUNK, |chunk| {
                (chunk.bytes.capacity() * 2).min(BIGGEST_CHUNK)
            })
            .min(self.latest_limit.max(1));
        let bytes = match self.spare.take() {
            Some(mut spare) if spare.capacity() >= size => {
                spare.clear();
                spare
            }
            _ => Vec::with_capacity(size),
        };
        Chunk {
            start: self.end,
            bytes,
        }
    }

    /// Returns the piece that begins at `from`, or after the gap that `from` lies in.
    pub fn piece(&self, from: u64) -> Piece<'_> {
        if from < self.first.len() as u64 {
            return Piece {
                skipped: 0,
                offset: from,
                bytes: &self.first[from as usize..],
            };
        }
        let index = self.latest.partition_point(|chunk| chunk.end() <= from);
        match self.latest.get(index) {
            None => Piece {
                skipped: 0,
                offset: self.end,
                bytes: &[],
            },
            Some(chunk) if from < chunk.start => Piece {
                skipped: chunk.start - from,
                offset: chunk.start,
                bytes: &chunk.bytes,
            },
            Some(chunk) => Piece {
                skipped: 0,
                offset: from,
                bytes: &chunk.bytes[(from - chunk.start) as usize..],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(history: &History, mut from: u64) -> (Vec<(u64, Vec<u8>)>, u64) {
        let mut pieces = Vec::new();
        let mut skipped = 0;
        loop {
            let piece = history.piece(from);
            if piece.bytes.is_empty() {
                return (pieces, skipped);
            }
            skipped += piece.skipped;
            from = piece.offset + piece.bytes.len() as u64;
            pieces.push((piece.offset, piece.bytes.to_vec()));
        }
    }

    proptest! {
        #[test]
        fn every_kept_byte_is_the_one_of_its_offset(
            pushes in proptest::collection::vec(0usize..9000, 0..40),
            first in 0usize..5000,
            latest in 1usize..40_000,
            from in 0u64..100_000,
        ) {
            let mut history = History::with_limits(first, latest);
            let mut stream = Vec::new();
            for length in pushes {
                let part: Vec<u8> = (0..length).map(|index| ((stream.len() + index) * 31 % 251) as u8).collect();
                history.push(&part);
                stream.extend_from_slice(&part);
            }
            prop_assert_eq!(history.end(), stream.len() as u64);
            let from = from.min(stream.len() as u64);
            let (pieces, skipped) = read_all(&history, from);
            let mut seen = 0;
            for (offset, bytes) in &pieces {
                let offset = *offset as usize;
                prop_assert_eq!(&stream[offset..offset + bytes.len()], &bytes[..]);
                seen += bytes.len() as u64;
            }
            prop_assert_eq!(from + seen + skipped, stream.len() as u64, "nothing is missing without being counted");
            if from >= history.contiguous_from() {
                prop_assert_eq!(skipped, 0);
            }
            let kept_latest = stream.len().saturating_sub(first).min(latest.saturating_sub(BIGGEST_CHUNK));
            prop_assert!(history.end() - history.contiguous_from() >= kept_latest as u64);
            prop_assert!(history.memory() <= first * 2 + latest + 2 * BIGGEST_CHUNK + 64);
        }
    }

    #[test]
    fn the_boot_log_and_the_latest_stay_when_flooded() {
        let mut history = History::default();
        let chunk = vec![7; 1 << 16];
        for _ in 0..1000 {
            history.push(&chunk);
        }
        assert_eq!(history.piece(0).bytes.len(), FIRST_LIMIT);
        let gap = history.piece(FIRST_LIMIT as u64);
        assert!(gap.skipped > 0);
        let kept = history.end() - history.contiguous_from();
        assert!(
            kept <= LATEST_LIMIT as u64 && kept > (LATEST_LIMIT - BIGGEST_CHUNK) as u64,
            "{kept}"
        );
        assert!(history.memory() <= FIRST_LIMIT + LATEST_LIMIT + 2 * BIGGEST_CHUNK);
    }

    #[test]
    fn a_silent_port_takes_no_memory() {
        assert_eq!(History::default().memory(), 0);
    }
}
