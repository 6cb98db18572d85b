#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::coap::fuzzing::message(data));
