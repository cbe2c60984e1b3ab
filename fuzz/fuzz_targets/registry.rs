//! Runs [`nsm_fuzz::registry`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::registry(data));
