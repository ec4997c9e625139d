//! An `ssh` for Windows programs under Wine, which hands on all that it is given: the words, and its standard streams. The real
//! one of this machine is at the other end of `127.0.0.1:PORT`, the port being in the file `port` of its state.
//!
//! Two connections, each beginning with a line `data TOKEN` or `errors TOKEN`. The first has the words (a line with their number,
//! then each as a line with its length and its bytes) and then the bytes of standard input and output; the second brings
//! standard error in pieces, each with its length (32 bits, little-endian), and behind `ffffffff` the exit code.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::ExitCode;

/// Says that no more errors follow, and the exit code does.
const ENDED: u32 = u32::MAX;

/// Is `ssh` until the real one has ended.
pub fn main(arguments: &[String], state: &Path) -> ExitCode {
    match run(arguments, state) {
        // Threads that wait for standard input end with the process.
        Ok(code) => std::process::exit(code),
        Err(error) => {
            // Nobody is left to be told.
            let _ = writeln!(io::stderr(), "ssh: {error}");
            ExitCode::from(255)
        }
    }
}

fn run(arguments: &[String], state: &Path) -> io::Result<i32> {
    let port = std::fs::read_to_string(state.join("port"))?;
    let connect = |kind: &str| -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", port.trim()))?;
        stream.set_nodelay(true)?;
        writeln!(stream, "{kind} {}", std::process::id())?;
        Ok(stream)
    };
    let (mut data, mut errors) = (connect("data")?, connect("errors")?);
    writeln!(data, "{}", arguments.len())?;
    for argument in arguments {
        writeln!(data, "{}", argument.len())?;
        data.write_all(argument.as_bytes())?;
    }
    let mut output = data.try_clone()?;
    std::thread::spawn(move || {
        // Whichever side has ended, the other one is told.
        let _ = pass(&mut io::stdin().lock(), &mut data);
        let _ = data.shutdown(Shutdown::Write);
    });
    let shown = std::thread::spawn(move || pass(&mut output, &mut io::stdout().lock()));
    loop {
        let length = number(&mut errors)?;
        if length == ENDED {
            break;
        }
        let mut piece = vec![0; length as usize];
        errors.read_exact(&mut piece)?;
        io::stderr().write_all(&piece)?;
    }
    let code = number(&mut errors)?;
    // A panic there would have been told.
    let _ = shown.join();
    Ok(code.cast_signed())
}

fn number(stream: &mut TcpStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}
