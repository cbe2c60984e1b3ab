//! Runs [`nsm_fuzz::nsurl`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::nsurl(data));
