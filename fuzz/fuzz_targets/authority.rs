//! Runs [`nsm_fuzz::authority`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::authority(data));
