//! What the target sent, kept by absolute offset: the first mebibyte (the boot log) and the latest four. Pure.
//!
//! Consoles read from here, each at its own offset, so that a slow one costs no memory and slows nobody down.

use crate::bridge::memory::Budget;
use std::collections::VecDeque;
use std::sync::Arc;

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

    /// Takes what there is room for; returns how many bytes that were.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }
}

/// Each chunk is twice as big as the one before it.
fn next_size(before: Option<&Chunk>) -> usize {
    before.map_or(SMALLEST_CHUNK, |chunk| {
        (chunk.bytes.capacity() * 2).clamp(SMALLEST_CHUNK, BIGGEST_CHUNK)
    })
}

/// The kept parts of a stream.
#[derive(Debug)]
pub struct History {
    first: Vec<Chunk>,
    first_end: u64,
    latest: VecDeque<Chunk>,
    latest_bytes: usize,
    end: u64,
    first_limit: usize,
    latest_limit: usize,
    spare: Option<Vec<u8>>,
    budget: Arc<Budget>,
    /// Taken from the budget.
    memory: usize,
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
        Self::with_budget(first_limit, latest_limit, Budget::of_process())
    }

    /// Makes an empty history that takes its memory from another budget than the process's.
    pub fn with_budget(first_limit: usize, latest_limit: usize, budget: Arc<Budget>) -> Self {
        Self {
            first: Vec::new(),
            first_end: 0,
            latest: VecDeque::new(),
            latest_bytes: 0,
            end: 0,
            first_limit,
            latest_limit,
            spare: None,
            budget,
            memory: 0,
        }
    }

    /// Returns the absolute offset of the end: how many bytes ever came.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns the offset from which on everything up to the end is kept.
    pub fn contiguous_from(&self) -> u64 {
        match self.latest.front() {
            Some(chunk) if chunk.start > self.first_end => chunk.start,
            _ => 0,
        }
    }

    /// Returns how many bytes of memory the kept parts take.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Appends bytes; the oldest of the latest part go when it is full, or when other ports need the memory.
    pub fn push(&mut self, mut bytes: &[u8]) {
        bytes = self.push_first(bytes);
        while !bytes.is_empty() {
            if self
                .latest
                .back()
                .is_none_or(|chunk| chunk.bytes.len() == chunk.bytes.capacity())
            {
                let bytes = self.new_chunk();
                self.latest.push_back(Chunk {
                    start: self.end,
                    bytes,
                });
            }
            let chunk = self
                .latest
                .back_mut()
                .expect("a chunk was pushed when there was none");
            let count = chunk.fill(bytes);
            self.latest_bytes += count;
            self.end += count as u64;
            bytes = &bytes[count..];
            while self.latest_bytes > self.latest_limit && self.latest.len() > 1 {
                self.spare_one();
            }
        }
    }

    /// Appends what still belongs to the first part, and returns the rest.
    fn push_first<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while self.first_end < self.first_limit as u64 && self.first_end == self.end && !bytes.is_empty() {
            if self
                .first
                .last()
                .is_none_or(|chunk| chunk.bytes.len() == chunk.bytes.capacity())
            {
                let room = self.first_limit - self.first_end as usize;
                let size = next_size(self.first.last()).min(room);
                if self.budget.is_too_much(self.memory + size) || !self.take(size) {
                    // The boot's beginning is kept as far as there was memory for it.
                    self.first_limit = self.first_end as usize;
                    break;
                }
                self.first.push(Chunk {
                    start: self.end,
                    bytes: Vec::with_capacity(size),
                });
            }
            let chunk = self
                .first
                .last_mut()
                .expect("a chunk was pushed when there was none");
            let count = chunk.fill(bytes);
            self.end += count as u64;
            self.first_end = self.end;
            bytes = &bytes[count..];
        }
        bytes
    }

    /// Takes memory from the budget, if it has some left.
    fn take(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.count(bytes);
        }
        taken
    }

    fn count(&mut self, bytes: usize) {
        if self.memory == 0 {
            self.budget.join();
        }
        self.memory += bytes;
    }

    fn give(&mut self, bytes: Vec<u8>) {
        self.memory -= bytes.capacity();
        self.budget.give(bytes.capacity());
        if self.memory == 0 {
            self.budget.leave();
        }
    }

    /// Puts a chunk aside, to be used again: the oldest of the latest part, or else the end of the first part.
    fn spare_one(&mut self) {
        let old = if self.latest.len() > 1 {
            let old = self.latest.pop_front().expect("there are two chunks");
            self.latest_bytes -= old.bytes.len();
            old
        } else if let Some(old) = self.first.pop() {
            self.first_end = old.start;
            self.first_limit = old.start as usize;
            old
        } else {
            return;
        };
        if let Some(before) = self.spare.replace(old.bytes) {
            self.give(before);
        }
    }

    fn new_chunk(&mut self) -> Vec<u8> {
        let size = next_size(self.latest.back()).min(self.latest_limit.max(1));
        if self.budget.is_too_much(self.memory) {
            // Twice: one for ourselves, one for others.
            self.spare_one();
            self.spare_one();
        }
        if let Some(mut spare) = self.spare.take() {
            if spare.capacity() >= size || self.budget.is_too_much(self.memory) {
                spare.clear();
                return spare;
            }
            self.give(spare);
        }
        if self.take(size) {
            return Vec::with_capacity(size);
        }
        self.spare_one();
        if let Some(mut spare) = self.spare.take() {
            spare.clear();
            return spare;
        }
        // A console shows what comes, however many others there are.
        let size = size.min(SMALLEST_CHUNK);
        self.budget.overdraw(size);
        self.count(size);
        Vec::with_capacity(size)
    }

    /// Returns the piece that begins at `from`, or after the gap that `from` lies in.
    pub fn piece(&self, from: u64) -> Piece<'_> {
        if from < self.first_end {
            let index = self.first.partition_point(|chunk| chunk.end() <= from);
            let chunk = &self.first[index];
            return Piece {
                skipped: 0,
                offset: from,
                bytes: &chunk.bytes[(from - chunk.start) as usize..],
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

impl Drop for History {
    fn drop(&mut self) {
        if self.memory > 0 {
            self.budget.give(self.memory);
            self.budget.leave();
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
        let (pieces, _) = read_all(&history, 0);
        let first: usize = pieces
            .iter()
            .take_while(|(offset, _)| *offset < FIRST_LIMIT as u64)
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert_eq!(first, FIRST_LIMIT);
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
    fn ports_share_a_budget_and_every_one_shows_what_comes() {
        let budget = Arc::new(Budget::new(2 << 20));
        let make = || History::with_budget(FIRST_LIMIT, LATEST_LIMIT, Arc::clone(&budget));
        let flood = |history: &mut History| {
            for round in 0..256u32 {
                history.push(&[round as u8; 16 << 10]);
            }
        };
        let mut alone = make();
        flood(&mut alone);
        assert!(alone.memory() > 1 << 20 && budget.used() <= 2 << 20);
        let mut others: Vec<History> = (0..15).map(|_| make()).collect();
        for _ in 0..12 {
            for history in others.iter_mut().chain([&mut alone]) {
                flood(history);
            }
        }
        // Each has about its part, the newest bytes are there, and only the smallest chunks are beyond the budget.
        assert!(
            budget.used() <= (2 << 20) + 16 * SMALLEST_CHUNK,
            "{}",
            budget.used()
        );
        for history in others.iter().chain([&alone]) {
            let kept = history.end() - history.contiguous_from();
            assert!(kept >= SMALLEST_CHUNK as u64 / 2, "{kept}");
            assert!(history.memory() < 1 << 20, "{}", history.memory());
            let last = history.piece(history.end() - 1).bytes;
            assert_eq!(last, [255]);
        }
        drop((others, alone));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_silent_port_takes_no_memory() {
        assert_eq!(History::default().memory(), 0);
    }
}
