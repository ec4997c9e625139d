//! A terminal device as a stream: `/dev/ttyUSB0`, `/dev/pts/3`, `COM3`. It is away while it is unplugged.

use crate::bridge::channel::{Channel, Facts};
use crate::bridge::line::{ControlledStream, LineChange};
use crate::bridge::sys::{TtyHold, tty_is_gone};
use crate::model::{FlowControl, NativeBreak, Parity, TtySettings};
use serial2_tokio::{CharSize, SerialPort, Settings, StopBits};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// A BREAK is at least 250 ms long (POSIX tcsendbreak): long enough for every speed in use.
const BREAK_TIME: Duration = Duration::from_millis(250);

/// The BREAK comes behind what was written. A line that is held back must not hold back the BREAK for longer than this.
const DRAIN_TIME: Duration = Duration::from_millis(150);

/// How often the device is asked whether everything went out; 9600 baud take this long for five characters.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// Opens a device: raw, for us alone.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied`, `ResourceBusy` or `WouldBlock` if somebody else has it for himself; a setting that the device
/// does not have.
pub(super) fn open(device: &str, settings: TtySettings) -> io::Result<Channel> {
    let hold = TtyHold::take(device).map_err(gone)?;
    let port = SerialPort::open(device, |found: Settings| apply(found, settings)).map_err(gone)?;
    hold.settle()?;
    let stream = TtyStream {
        port,
        hold,
        sending: None,
    };
    Ok(Channel::controlled(stream, Facts::whole(device)))
}

/// Makes the settings raw and as they are wanted. Received BREAKs are ignored: a NUL would be a byte that nobody sent.
fn apply(mut found: Settings, wanted: TtySettings) -> io::Result<Settings> {
    found.set_raw();
    if let Some(rate) = wanted.baud_rate {
        found.set_baud_rate(rate)?;
    }
    found.set_char_size(match wanted.data_bits {
        Some(5) => CharSize::Bits5,
        Some(6) => CharSize::Bits6,
        Some(7) => CharSize::Bits7,
        _ => CharSize::Bits8,
    });
    found.set_parity(match wanted.parity {
        Some(Parity::Even) => serial2_tokio::Parity::Even,
        Some(Parity::Odd) => serial2_tokio::Parity::Odd,
        Some(Parity::None) | None => serial2_tokio::Parity::None,
    });
    found.set_stop_bits(if wanted.stop_bits == Some(2) {
        StopBits::Two
    } else {
        StopBits::One
    });
    found.set_flow_control(match wanted.flow {
        Some(FlowControl::RtsCts) => serial2_tokio::FlowControl::RtsCts,
        Some(FlowControl::XonXoff) => serial2_tokio::FlowControl::XonXoff,
        Some(FlowControl::None) | None => serial2_tokio::FlowControl::None,
    });
    Ok(found)
}

/// Says of a device that went away what it is.
fn gone(error: io::Error) -> io::Error {
    if tty_is_gone(&error) {
        io::Error::other("the device is gone")
    } else {
        error
    }
}

/// What is left of a BREAK.
enum Sending {
    /// Written bytes are still going out.
    Draining(Pin<Box<dyn Future<Output = ()> + Send>>, Duration),
    /// The line is held low.
    Low(Pin<Box<dyn Future<Output = ()> + Send>>),
}

struct TtyStream {
    port: SerialPort,
    hold: TtyHold,
    sending: Option<Sending>,
}

impl Drop for TtyStream {
    fn drop(&mut self) {
        if matches!(self.sending, Some(Sending::Low(_))) {
            // The device may be gone.
            let _ = self.port.set_break(false);
        }
    }
}

impl ControlledStream for TtyStream {
    fn native_breaks(&self) -> &'static [NativeBreak] {
        &[NativeBreak::Tty]
    }

    fn poll_break(&mut self, by: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if by != NativeBreak::Tty {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        loop {
            match &mut self.sending {
                None => self.sending = Some(Sending::Draining(Box::pin(async {}), Duration::ZERO)),
                Some(Sending::Draining(look, waited)) => {
                    ready!(look.as_mut().poll(context));
                    // A device that cannot tell has nothing queued.
                    let queued = self.hold.queued_output().unwrap_or_default();
                    if queued > 0 && *waited < DRAIN_TIME {
                        *waited += DRAIN_LOOK;
                        *look = Box::pin(sleep(DRAIN_LOOK));
                        continue;
                    }
                    if let Err(error) = self.port.set_break(true) {
                        self.sending = None;
                        return Poll::Ready(Err(gone(error)));
                    }
                    self.sending = Some(Sending::Low(Box::pin(sleep(BREAK_TIME))));
                }
                Some(Sending::Low(time)) => {
                    ready!(time.as_mut().poll(context));
                    self.sending = None;
                    return Poll::Ready(self.port.set_break(false).map_err(gone));
                }
            }
        }
    }

    fn set_lines(&mut self, change: LineChange) -> io::Result<()> {
        if let Some(dtr) = change.dtr {
            self.port.set_dtr(dtr).map_err(gone)?;
        }
        if let Some(rts) = change.rts {
            self.port.set_rts(rts).map_err(gone)?;
        }
        Ok(())
    }
}

impl AsyncRead for TtyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.port).poll_read(context, buffer)).map_err(gone)?;
        if buffer.filled().len() == before {
            // A line has no end; this is what a read says of a device that was unplugged.
            return Poll::Ready(Err(io::Error::other("the device is gone")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TtyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.port).poll_write(context, bytes).map_err(gone)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(context).map_err(gone)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(context).map_err(gone)
    }
}
