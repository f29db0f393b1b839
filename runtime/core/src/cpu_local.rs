//! Where the state of the one virtual CPU lives: which runtime is running on it.

use alloc::rc::Rc;

use crate::context::Context;

/// The runtime this CPU is running, if any.
pub(crate) fn current() -> Option<Rc<Context>> {
    storage::with(|slot| slot.borrow().clone())
}

/// Makes `context` the runtime this CPU is running and returns the one before it.
pub(crate) fn replace(context: Option<Rc<Context>>) -> Option<Rc<Context>> {
    storage::with(|slot| slot.replace(context))
}

#[cfg(any(test, feature = "std"))]
mod storage {
    use alloc::rc::Rc;
    use core::cell::RefCell;

    use crate::context::Context;

    std::thread_local! {
        static SLOT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
    }

    pub(super) fn with<R>(operation: impl FnOnce(&RefCell<Option<Rc<Context>>>) -> R) -> R {
        SLOT.with(operation)
    }
}

#[cfg(not(any(test, feature = "std")))]
#[allow(unsafe_code)]
mod storage {
    use alloc::rc::Rc;
    use core::cell::RefCell;

    use crate::context::Context;

    struct CpuLocal(RefCell<Option<Rc<Context>>>);

    // SAFETY: `Sync` promises that references may be used from several threads at once. A
    // guest has one virtual CPU and one thread of execution; the only other code that runs on
    // it are interrupt and exception handlers, and those never touch the runtime (they note
    // the event and return). Nothing in this crate starts a second CPU; whoever adds one must
    // give each its own slot.
    unsafe impl Sync for CpuLocal {}

    static SLOT: CpuLocal = CpuLocal(RefCell::new(None));

    pub(super) fn with<R>(operation: impl FnOnce(&RefCell<Option<Rc<Context>>>) -> R) -> R {
        operation(&SLOT.0)
    }
}
