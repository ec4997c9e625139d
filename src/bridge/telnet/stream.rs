//! A telnet session around a channel.

use super::codec::{encode, is_plain, width};
use super::session::{Dialect, Party, Session};
use crate::bridge::channel::Channel;
use crate::bridge::line::{ControlRequest, ControlledStream, LineChange};
use crate::model::NativeBreak;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Data bytes that are put on the wire in one go when some of them need it.
const CHUNK: usize = 32 << 10;

/// How long an RFC 2217 BREAK lasts: three characters at 300 baud, and short beside a way's deadline.
const BREAK_LASTS: Duration = Duration::from_millis(100);

/// While RFC 2217 is being agreed on, data that come are kept up to this; no guest says more within a BREAK's deadline.
const KEPT_MEANWHILE: usize = 256 << 10;

/// Speaks telnet on a channel that was just opened.
pub fn wrap(channel: Channel, dialect: Dialect, party: Party) -> Channel {
    let facts = channel.facts().clone();
    let mut session = Session::new(dialect, party);
    let mut owed = Vec::new();
    session.take_replies(&mut owed);
    let stream = TelnetStream {
        inner: channel,
        session,
        dialect,
        owed,
        owed_from: 0,
        undecoded: Vec::new(),
        decoded: Vec::new(),
        breaking: None,
    };
    Channel::controlled(stream, facts)
}

/// How far a BREAK is.
enum Breaking {
    /// The other side has not said yet whether it knows RFC 2217.
    Agreeing,
    /// It is on until then.
    On(Pin<Box<Sleep>>),
    /// Its last byte is on its way.
    Last,
}

struct TelnetStream {
    inner: Channel,
    session: Session,
    dialect: Dialect,
    /// Wire bytes that go out before anything else: answers, the second half of an escape.
    owed: Vec<u8>,
    owed_from: usize,
    /// Wire bytes behind a request.
    undecoded: Vec<u8>,
    /// Data that came while nobody read.
    decoded: Vec<u8>,
    breaking: Option<Breaking>,
}

impl TelnetStream {
    /// Writes what is owed. Ready when nothing is.
    fn poll_owed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.take_replies(&mut self.owed);
        while self.owed_from < self.owed.len() {
            let rest = &self.owed[self.owed_from..];
            match ready!(self.inner.poll_write_some(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.owed_from += count,
            }
        }
        self.owed.clear();
        self.owed_from = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what is owed as far as that goes; the rest goes with what is written or read next. A stream that takes
    /// nothing any more may still have bytes to give.
    fn try_owed(&mut self, context: &mut Context<'_>) {
        if let Poll::Ready(Err(_)) = self.poll_owed(context) {
            self.owed.clear();
            self.owed_from = 0;
        }
    }

    /// Takes `buffer` apart in place and keeps what lies behind a request. Returns how many data bytes it begins with.
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        if self.session.receives_plain(buffer) {
            return buffer.len();
        }
        let (data, read) = self.session.receive(buffer);
        self.undecoded.splice(..0, buffer[read..].iter().copied());
        data
    }

    /// Goes on with a BREAK.
    fn poll_breaking(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_owed(context))?;
            match &mut self.breaking {
                None => return Poll::Ready(Ok(())),
                Some(Breaking::Last) => self.breaking = None,
                Some(Breaking::On(until)) => {
                    ready!(until.as_mut().poll(context));
                    Session::put_com_port_break(false, &mut self.owed);
                    self.breaking = Some(Breaking::Last);
                }
                Some(Breaking::Agreeing) => match self.session.com_port() {
                    Some(true) => {
                        Session::put_com_port_break(true, &mut self.owed);
                        self.breaking = Some(Breaking::On(Box::pin(tokio::time::sleep(BREAK_LASTS))));
                    }
                    Some(false) => {
                        self.breaking = None;
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::Unsupported,
                            "the server does not speak RFC 2217; `--break-with telnet` may be heard",
                        )));
                    }
                    None => ready!(self.poll_agreeing(context))?,
                },
            }
        }
    }

    /// Reads on until RFC 2217 is agreed on or refused: nobody else may be reading.
    fn poll_agreeing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.decoded.len() > KEPT_MEANWHILE || self.session.has_request() {
            return Poll::Pending;
        }
        let mut buffer = [0; 4096];
        let count = ready!(self.inner.poll_read_some(context, &mut buffer))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let data = self.receive(&mut buffer[..count]);
        self.decoded.extend_from_slice(&buffer[..data]);
        Poll::Ready(Ok(()))
    }

    /// Gives data that are here already.
    fn give_decoded(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.decoded.len().min(buffer.remaining());
        buffer.put_slice(&self.decoded[..count]);
        self.decoded.drain(..count);
    }

    /// Reads wire bytes: those behind a request first.
    fn poll_wire(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.undecoded.is_empty() {
            return self.inner.poll_read_some(context, buffer);
        }
        let count = self.undecoded.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.undecoded[..count]);
        self.undecoded.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for TelnetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            this.try_owed(context);
            if !this.decoded.is_empty() {
                this.give_decoded(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.session.has_request() {
                return Poll::Pending;
            }
            let room = buffer.initialize_unfilled();
            let count = ready!(this.poll_wire(context, room))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let data = this.receive(&mut room[..count]);
            this.try_owed(context);
            if data > 0 {
                buffer.advance(data);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for TelnetStream {
    /// While the other side wants no data this waits for a read, which hears when it does.
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.breaking.is_some() {
            // It was given up by who asked for it; a BREAK without its end would hold the line for ever.
            if let Err(error) = ready!(this.poll_breaking(context))
                && error.kind() != io::ErrorKind::Unsupported
            {
                return Poll::Ready(Err(error));
            }
        }
        ready!(this.poll_owed(context))?;
        if this.session.is_suspended() {
            return Poll::Pending;
        }
        let mode = this.session.sending();
        if is_plain(bytes, mode) {
            return this.inner.poll_write_some(context, bytes);
        }
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        let mut wire = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 16);
        encode(bytes, mode, &mut wire);
        let written = ready!(this.inner.poll_write_some(context, &wire))?;
        if written == wire.len() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let (mut taken, mut covered) = (0, 0);
        while covered < written {
            covered += width(bytes, taken, mode);
            taken += 1;
        }
        // The second byte of an escape goes before anything else.
        this.owed.extend_from_slice(&wire[written..covered]);
        this.try_owed(context);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_owed(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_owed(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

impl ControlledStream for TelnetStream {
    fn native_breaks(&self) -> &'static [NativeBreak] {
        match self.dialect {
            Dialect::Telnet => &[NativeBreak::Telnet],
            Dialect::Rfc2217(_) => &[NativeBreak::Rfc2217, NativeBreak::Telnet],
        }
    }

    fn poll_break(&mut self, by: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.breaking.is_none() {
            self.breaking = Some(match by {
                NativeBreak::Telnet => {
                    Session::put_telnet_break(&mut self.owed);
                    Breaking::Last
                }
                NativeBreak::Rfc2217 => Breaking::Agreeing,
                NativeBreak::Tty => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            });
        }
        self.poll_breaking(context)
    }

    fn take_request(&mut self) -> Option<ControlRequest> {
        self.session.take_request()
    }

    fn set_lines(&mut self, change: LineChange) -> io::Result<()> {
        if self.session.com_port() != Some(true) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Session::put_lines(change, &mut self.owed);
        Ok(())
    }

    fn peer_is_gone(&self) -> bool {
        self.inner.peer_is_gone()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::codec::{Decoder, Mode};
    use super::*;
    use crate::bridge::Facts;
    use crate::model::TtySettings;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn pair(room: usize, dialect: Dialect, party: Party) -> (Channel, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(room);
        let channel = Channel::new(ours, Facts::half_closing("test"));
        (wrap(channel, dialect, party), theirs)
    }

    fn data_of(wire: &[u8]) -> Vec<u8> {
        let mut buffer = wire.to_vec();
        let (mut decoder, mut data, mut read) = (Decoder::default(), Vec::new(), 0);
        while read < buffer.len() {
            let step = decoder.decode(&mut buffer, read, 0, Mode::Binary);
            data.extend_from_slice(&buffer[..step.data]);
            read += step.consumed;
        }
        data
    }

    #[tokio::test]
    async fn a_stream_that_takes_single_bytes_gets_every_byte_once() {
        for (room, count) in [(1, 1000_u32), (2, 1000), (3, 1000), (1000, 4000)] {
            let (mut channel, mut far) = pair(room, Dialect::Telnet, Party::Server);
            let bytes: Vec<u8> = (0..count)
                .map(|at| if at % 3 == 0 { 0xff } else { at as u8 })
                .collect();
            let sent = bytes.clone();
            let writer = async move {
                channel.write_all(&sent).await.unwrap();
                channel.shutdown().await.unwrap();
            };
            let reader = async move {
                let mut wire = Vec::new();
                far.read_to_end(&mut wire).await.unwrap();
                wire
            };
            let ((), wire) = tokio::join!(writer, reader);
            assert_eq!(data_of(&wire), bytes, "{room}");
        }
    }

    #[tokio::test]
    async fn reads_give_data_then_wait_for_the_request_to_be_taken() {
        let (mut channel, mut far) = pair(4096, Dialect::Telnet, Party::Server);
        far.write_all(b"ab\xff\xf3\xff\xf3cd\xff\xff\xff\xfd\x00e")
            .await
            .unwrap();
        let mut buffer = [0; 100];
        assert_eq!(channel.read(&mut buffer).await.unwrap(), 2);
        for _ in 0..2 {
            let read =
                poll_fn(|context| Poll::Ready(channel.poll_read_some(context, &mut buffer).is_pending()))
                    .await;
            assert!(read);
            assert_eq!(channel.take_request(), Some(ControlRequest::Break));
        }
        let count = channel.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"cd\xffe");
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_is_said_behind_the_data_and_ended() {
        let (mut channel, mut far) = pair(4096, Dialect::Telnet, Party::Client);
        channel.write_all(b"x").await.unwrap();
        poll_fn(|context| channel.poll_break(NativeBreak::Telnet, context))
            .await
            .unwrap();
        channel.write_all(b"g").await.unwrap();
        let mut wire = [0; 4];
        far.read_exact(&mut wire).await.unwrap();
        assert_eq!(&wire, b"x\xff\xf3g");

        let (mut channel, mut far) = pair(4096, Dialect::Rfc2217(TtySettings::default()), Party::Client);
        // The server agrees while the BREAK waits, and the guest goes on talking.
        far.write_all(b"text\xff\xfd\x2c more").await.unwrap();
        let began = tokio::time::Instant::now();
        poll_fn(|context| channel.poll_break(NativeBreak::Rfc2217, context))
            .await
            .unwrap();
        assert!(began.elapsed() >= BREAK_LASTS);
        channel.write_all(b"g").await.unwrap();
        let mut wire = vec![0; 200];
        let count = far.read(&mut wire).await.unwrap();
        assert!(
            wire[..count].ends_with(b"\xff\xfa\x2c\x05\x05\xff\xf0\xff\xfa\x2c\x05\x06\xff\xf0g"),
            "{:x?}",
            &wire[..count]
        );
        let mut text = [0; 9];
        channel.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"text more");

        let (mut channel, mut far) = pair(4096, Dialect::Rfc2217(TtySettings::default()), Party::Client);
        far.write_all(b"\xff\xfe\x2c").await.unwrap();
        let refused = poll_fn(|context| channel.poll_break(NativeBreak::Rfc2217, context))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        channel.write_all(b"still").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_suspends_is_waited_for() {
        let (mut channel, mut far) = pair(4096, Dialect::Rfc2217(TtySettings::default()), Party::Server);
        let mut buffer = [0; 100];
        far.write_all(b"\xff\xfb\x2c\xff\xfa\x2c\x08\xff\xf0a")
            .await
            .unwrap();
        assert_eq!(channel.read(&mut buffer).await.unwrap(), 1);
        let waits = poll_fn(|context| Poll::Ready(channel.poll_write_some(context, b"x").is_pending())).await;
        assert!(waits);
        far.write_all(b"\xff\xfa\x2c\x09\xff\xf0b").await.unwrap();
        assert_eq!(channel.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(channel.write(b"x").await.unwrap(), 1);
    }
}
