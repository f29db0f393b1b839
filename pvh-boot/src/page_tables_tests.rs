//! Tests of `page_tables`.
