//! What carries a helper's standard streams, and how its end is put into words.

use crate::runner::Status;
use crate::runner::attended::{Attended, End};
use crate::runner::child_stream::failure;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Towards the helper. Its shutdown or its drop is the end of the helper's standard input.
pub(super) type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// From the helper.
pub(super) type Output = Box<dyn AsyncRead + Send + Unpin>;

/// After the end of its output a helper's status is waited for this long: it is the reason.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What runs as long as the helper is wanted.
pub(super) enum Life {
    /// A process of ours, ended by the drop.
    Process(Attended),
    /// A stream through our own SSH, given up with its halves. Its end says why.
    Stream,
}

impl Life {
    async fn end(&self) -> Option<End> {
        match self {
            Self::Process(process) => timeout(LAST_WORDS, process.ended().wait()).await.ok().flatten(),
            Self::Stream => None,
        }
    }

    /// Returns how our process ended, once its output has.
    pub async fn status(&self) -> Option<Status> {
        Some(self.end().await?.status)
    }

    /// Says why its output ended; `None` if it says nothing of it.
    pub async fn last_words(&self, end: io::Result<usize>) -> Option<String> {
        match self {
            Self::Process(_) => self.end().await.as_ref().and_then(failure),
            Self::Stream => end.err().map(|error| error.to_string()),
        }
    }
}
