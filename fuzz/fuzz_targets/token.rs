//! Runs [`nsm_fuzz::token`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::token(data));
