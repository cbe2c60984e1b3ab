//! Runs [`nsm_fuzz::mechanism`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::mechanism(data));
