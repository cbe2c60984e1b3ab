//! Runs [`nsm_fuzz::ca_files`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::ca_files(data));
