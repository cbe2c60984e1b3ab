//! Runs [`nsm_fuzz::names`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::names(data));
