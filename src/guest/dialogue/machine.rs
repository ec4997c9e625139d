//! What the machines of a dialogue have in common, so that one driver holds each of them over a port.

use super::{Credentials, LoginFailure, Mark};
use std::time::Duration;

/// Says bytes, and is told what came and how late it is.
pub trait Dialogue {
    /// What it is held for.
    type Said;
    /// Why there is none.
    type Failure;

    /// Returns what is to be sent, once.
    fn take_output(&mut self) -> Vec<u8>;

    /// Returns how it ended, once.
    fn take_outcome(&mut self) -> Option<Result<Self::Said, Self::Failure>>;

    /// Returns when [`Dialogue::tick`] is wanted.
    fn deadline(&self) -> Duration;

    /// Takes what the console said.
    fn input(&mut self, now: Duration, bytes: &[u8]);

    /// Lets time pass.
    fn tick(&mut self, now: Duration);
}

/// Runs one command after the other behind a login.
pub trait Shell: Dialogue {
    /// The way to it.
    type Login: Dialogue<Failure = LoginFailure>;

    /// Begins the login.
    fn login(credentials: Credentials, mark: Mark, now: Duration) -> Self::Login;

    /// Takes over after the login.
    fn behind(login: <Self::Login as Dialogue>::Said, mark: Mark) -> Self;

    /// Returns what leaves the console as it was: lines, each to be sent when the one before it was answered.
    fn goodbye(&self) -> Vec<Vec<u8>>;
}
