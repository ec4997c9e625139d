//! How many commands a connection may have at a time: sshd tells its limit (MaxSessions) by refusing one more.

use std::time::{Duration, Instant};

/// Commands at a time: sshd's MaxSessions is 10.
const MOST_COMMANDS: usize = 8;

/// sshd counts a command for a moment longer than it tells of it, on a loaded host for a long one: for so long after one ended
/// a refusal may be because of it.
const JUST_ENDED: Duration = Duration::from_secs(5);

/// Until a refused command is asked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of it.
#[derive(Debug)]
pub struct Room {
    most: usize,
    /// So many there were at once.
    reached: usize,
    ended: Option<Instant>,
    pause: Option<Instant>,
}

impl Room {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            most: MOST_COMMANDS,
            reached: 0,
            ended: None,
            pause: None,
        }
    }

    /// Tells whether one more may be asked for beside so many.
    pub fn is_for_one_more(&mut self, commands: usize, now: Instant) -> bool {
        self.pause = self.pause.filter(|&until| until > now);
        commands < self.most && self.pause.is_none()
    }

    /// One was opened; so many there are now.
    pub fn opened(&mut self, commands: usize) {
        self.reached = self.reached.max(commands);
    }

    /// One has ended.
    pub fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// One was refused beside so many. Tells whether it is asked for again.
    pub fn refused(&mut self, commands: usize, now: Instant) -> bool {
        let just_ended = self
            .ended
            .is_some_and(|ended| now.saturating_duration_since(ended) < JUST_ENDED);
        if just_ended && commands < self.reached {
            self.pause = Some(now + PAUSE);
            return true;
        }
        // Its limit: the next one goes when one of ours has ended. It lets in none at all where there is none to end.
        self.most = commands.max(1);
        commands > 0
    }

    /// Returns how long nothing can be asked for, if that is so.
    pub fn pause(&self) -> Option<Duration> {
        self.pause.map(|_| PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_learned_from_a_refusal() {
        let (mut room, now) = (Room::new(), Instant::now());
        room.opened(1);
        room.opened(2);
        assert!(room.is_for_one_more(2, now));
        assert!(room.refused(2, now));
        assert!(!room.is_for_one_more(2, now) && room.is_for_one_more(1, now));
    }

    #[test]
    fn a_command_that_ended_may_count_still() {
        let (mut room, now) = (Room::new(), Instant::now());
        room.opened(2);
        room.ended(now);
        for commands in [0, 1] {
            assert!(room.refused(commands, now));
            assert!(!room.is_for_one_more(commands, now) && room.pause().is_some());
            assert!(room.is_for_one_more(commands, now + PAUSE) && room.pause().is_none());
        }
        // Not for ever: then it is the host's limit, or its refusal.
        assert!(room.refused(1, now + JUST_ENDED) && !room.refused(0, now + JUST_ENDED));
    }

    #[test]
    fn a_host_that_lets_in_none_refuses() {
        assert!(!Room::new().refused(0, Instant::now()));
    }
}
