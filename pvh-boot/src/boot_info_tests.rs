//! Tests of `boot_info`.
