//! Return addresses on the stack, found by following frame pointers.
//!
//! Guests are built with frame pointers (`-Cforce-frame-pointers=yes`): no unwind tables need
//! to be loaded, and a walk survives a stack that ends in garbage.

use pvh_boot::{image, stack_bounds};

/// More frames than this are a recursion, whose top tells enough.
const MAX_FRAMES: usize = 64;

/// Calls `visit` with each return address, innermost first, starting from the frame that
/// `frame_pointer` points to.
pub(crate) fn walk(frame_pointer: u64, mut visit: impl FnMut(u64)) {
    let stack = stack_bounds();
    let code = image().text;
    let mut frame = frame_pointer;
    for _ in 0..MAX_FRAMES {
        // A frame is the caller's frame pointer and the return address above it.
        let inside = frame.is_multiple_of(8)
            && frame >= stack.start as u64
            && frame
                .checked_add(16)
                .is_some_and(|end| end <= stack.end as u64);
        if !inside {
            return;
        }
        let words = frame as *const [u64; 2];
        // SAFETY: both words lie in the stack, which is mapped, and are aligned.
        let [caller, return_address] = unsafe { words.read_volatile() };
        if !code.contains(&(return_address as usize)) {
            return;
        }
        visit(return_address);
        // Callers' frames lie above; anything else would be a loop.
        if caller <= frame {
            return;
        }
        frame = caller;
    }
}
