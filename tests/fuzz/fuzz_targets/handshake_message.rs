#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::dtls::fuzzing::handshake_message(data));
