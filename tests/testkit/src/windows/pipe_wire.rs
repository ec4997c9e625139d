//! A pipe's client: `pipe-wire NAME PORT` joins it to the TCP connection to 127.0.0.1:PORT. Says `connected`, and at the
//! pipe's end `ended NUMBER`. The end of TCP ends it too, after the other end of the pipe has read everything.

use super::overlapped::Pipe;
use super::{end, pipe_path, say};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::ExitCode;

/// Joins a pipe to TCP until one of them ends.
pub fn main(arguments: &[String], _state: &Path) -> ExitCode {
    let [name, port] = arguments else {
        return ExitCode::from(64);
    };
    end(run(name, port))
}

fn run(name: &str, port: &str) -> io::Result<()> {
    let pipe = Pipe::open(&pipe_path(name))?;
    let mut wire = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    wire.set_nodelay(true)?;
    say("connected");
    let (own, mut back) = (pipe.clone(), wire.try_clone()?);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        let number = loop {
            match own.read(&mut buffer) {
                Ok(0) => {}
                Ok(count) => {
                    if back.write_all(&buffer[..count]).is_err() {
                        break 0;
                    }
                }
                Err(error) => break error.raw_os_error().unwrap_or_default(),
            }
        };
        say(&format!("ended {number}"));
        let _ = back.shutdown(Shutdown::Both);
        // The other direction ends with this one; under Wine a read of the socket does not wake up.
        std::process::exit(0);
    });
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = wire.read(&mut buffer) {
        if pipe.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    pipe.flush();
    while !reader.is_finished() {
        pipe.cancel();
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    Ok(())
}
