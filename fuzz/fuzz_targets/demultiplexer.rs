//! Consoles and gdb share out what the target sends, whatever happens: see `vmserial::rsp::partition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    if let Err(error) = vmserial::rsp::partition::check(std::time::Instant::now(), script) {
        panic!("{error}");
    }
});
