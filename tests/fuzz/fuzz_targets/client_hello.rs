#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::dtls::fuzzing::client_hello(data));
