//! Tests of `address_space`.
