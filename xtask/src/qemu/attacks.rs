//! The boot code under test: its own checks of the machine it set up, programs that break
//! the rules, and boot data that cannot be believed.

use anyhow::Result;

use super::{BOOT_LIMIT, Context, Test};

pub(super) const TESTS: &[Test] = &[];
