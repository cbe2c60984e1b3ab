//! Runs [`nsm_fuzz::metadata`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::metadata(data));
