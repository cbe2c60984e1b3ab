//! Runs [`nsm_fuzz::nftables`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::nftables(data));
