//! When which part of a stream came, and where its boots begin. Pure.

use jiff::Timestamp;
use std::time::Duration;

/// Marks that are kept; beyond it every second one goes, and the grain doubles.
const MARKS: usize = 4096;

/// The finest grain: nobody asks for less, and a flooded port makes one mark in it.
const GRAIN: Duration = Duration::from_secs(1);

/// The times of a stream.
#[derive(Debug)]
pub struct Timeline {
    /// When the byte at this offset came; at least a grain between two.
    marks: Vec<(Timestamp, u64)>,
    grain: Duration,
    boot: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            marks: Vec::new(),
            grain: GRAIN,
            boot: 0,
        }
    }
}

impl Timeline {
    /// Notes that the byte at `offset` comes now.
    pub fn note(&mut self, now: Timestamp, offset: u64) {
        match self.marks.last_mut() {
            Some(last) if last.1 == offset => last.0 = now,
            // A clock that was set back makes no marks until it has caught up.
            Some(last) if now < add(last.0, self.grain) => {}
            _ => {
                if self.marks.len() == MARKS {
                    self.grain *= 2;
                    let mut index = 0;
                    self.marks.retain(|_| {
                        index += 1;
                        index % 2 == 1
                    });
                }
                self.marks.push((now, offset));
            }
        }
    }

    /// Notes that a boot begins at `offset`.
    pub fn boot_begins(&mut self, offset: u64) {
        self.boot = offset;
    }

    /// Returns where the latest boot begins.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Returns from where on the bytes came at `time` or later, a grain too many at most. `end` is the stream's.
    pub fn since(&self, time: Timestamp, end: u64) -> u64 {
        let after = self.marks.partition_point(|&(at, _)| at <= time);
        let next = self.marks.get(after).map_or(end, |&(_, offset)| offset);
        match after.checked_sub(1).map(|index| self.marks[index]) {
            None => next,
            // What came in the grain that `time` lies in may have come after it.
            Some((at, offset)) if time < add(at, self.grain) => offset,
            Some(_) => next,
        }
    }
}

fn add(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn a_time_is_an_offset() {
        let mut times = Timeline::default();
        assert_eq!(times.since(at(0), 0), 0);
        times.note(at(10_000), 0);
        times.note(at(10_400), 100);
        times.note(at(20_000), 150);
        for (time, offset) in [
            (0, 0),
            (9_999, 0),
            (10_000, 0),
            (10_900, 0),
            (11_000, 150),
            (19_999, 150),
            (20_500, 150),
            (21_000, 200),
        ] {
            assert_eq!(times.since(at(time), 200), offset, "{time}");
        }
        times.boot_begins(150);
        assert_eq!(times.boot(), 150);
    }

    #[test]
    fn a_silence_ends_with_the_byte_and_not_with_the_mark() {
        let mut times = Timeline::default();
        times.note(at(0), 0);
        times.note(at(5_000), 0);
        assert_eq!(times.since(at(3_000), 10), 0);
        assert_eq!(times.since(at(7_000), 10), 10);
    }

    #[test]
    fn weeks_take_no_more_memory_than_hours() {
        let mut times = Timeline::default();
        let end = 100_000u64;
        for second in 0..end {
            times.note(at(second as i64 * 1000), second);
        }
        assert!(times.marks.len() <= MARKS);
        assert!(times.grain <= Duration::from_secs(64));
        for second in (0..end).step_by(997) {
            let from = times.since(at(second as i64 * 1000), end);
            assert!(from <= second && second - from <= 64, "{second}: {from}");
        }
    }
}
