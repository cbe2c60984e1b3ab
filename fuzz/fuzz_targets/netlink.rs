//! Runs [`nsm_fuzz::netlink`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::netlink(data));
