#![no_main]

#[path = "../live.rs"]
mod live;

libfuzzer_sys::fuzz_target!(|data: &[u8]| live::datagrams(data));
