//! The list of tests: in a section of its own, which `link.x` gathers between two symbols.

use core::slice;

use super::Test;

// Where the list begins and ends: only the addresses mean something.
unsafe extern "C" {
    static __rekernel_tests_start: [usize; 0];
    static __rekernel_tests_end: [usize; 0];
}

/// All tests of this guest, in an order that is the same at every boot.
pub(super) fn tests() -> &'static [&'static Test] {
    let start = (&raw const __rekernel_tests_start).cast::<&'static Test>();
    let bytes = (&raw const __rekernel_tests_end).addr() - start.addr();
    let count = bytes / size_of::<&'static Test>();
    // SAFETY: only the macro `register!` puts anything into the section, one initialised reference
    // each, of a size that leaves no gaps; `link.x` aligns it, keeps all of it between the two symbols, and
    // nothing writes there.
    unsafe { slice::from_raw_parts(start, count) }
}

/// Adds a test to the list that the linker gathers.
#[doc(hidden)]
#[macro_export]
macro_rules! __register_test {
    ($path:expr, $start:path) => {
        const _: () = {
            // A reference, because the list must have no gaps: it is read as a slice.
            #[used]
            #[unsafe(link_section = ".rekernel.tests")]
            static TEST: &$crate::testing::Test = &$crate::testing::Test {
                path: $path,
                start: $start,
            };
        };
    };
}
