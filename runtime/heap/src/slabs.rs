//! Small objects: each size has pages of its own, cut into objects of that size.

use core::mem;
use core::ptr::{self, NonNull};

use crate::PAGE_SIZE;
use crate::pages::Pages;

/// Sizes of objects in bytes: four steps from each power of two to the next, from 64 bytes on.
const SIZES: [u16; CLASSES] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024,
    1280, 1536, 1792, 2048, 2560, 3072, 3584,
];
const CLASSES: usize = 27;
/// Largest object.
pub(crate) const LARGEST: usize = SIZES[CLASSES - 1] as usize;

/// A size of objects, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

/// The smallest class for each size in steps of 16 bytes.
const CLASS_OF: [u8; LARGEST / 16 + 1] = {
    let mut table = [0; LARGEST / 16 + 1];
    let mut class = 0;
    let mut step = 0;
    while step < table.len() {
        if step * 16 > SIZES[class] as usize {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

/// Pages of a slab of each class, a power of two: as few as lose no more than an eighth.
const PAGES: [u8; CLASSES] = {
    let mut pages = [1; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let size = SIZES[class] as usize;
        loop {
            let bytes = pages[class] as usize * PAGE_SIZE;
            let capacity = (bytes - HEADER) / size;
            if capacity * size * 8 >= bytes * 7 {
                break;
            }
            pages[class] *= 2;
        }
        class += 1;
    }
    pages
};

const HEADER: usize = size_of::<Slab>();

/// At the start of a slab's memory. The objects end at its end, so that those whose size is a power
/// of two are aligned to it.
struct Slab {
    /// Objects that were freed: each begins with the address of the next.
    free: *mut Free,
    /// Address of the first object that was never used.
    fresh: usize,
    live: u32,
    capacity: u32,
    previous: *mut Slab,
    next: *mut Slab,
}

struct Free {
    next: *mut Free,
}

impl Class {
    /// The class for objects of `size` bytes, which is at most [`LARGEST`], aligned to 16.
    pub(crate) fn of(size: usize) -> Self {
        Self(CLASS_OF[size.div_ceil(16)])
    }

    fn index(self) -> usize {
        self.0.into()
    }

    /// Bytes of an object.
    pub(crate) fn size(self) -> usize {
        SIZES[self.index()].into()
    }

    fn pages(self) -> usize {
        PAGES[self.index()].into()
    }

    fn slab_size(self) -> usize {
        self.pages() * PAGE_SIZE
    }
}

/// All slabs. Those with room are in a list for each class; full ones are in none.
pub(crate) struct Slabs {
    lists: [*mut Slab; CLASSES],
}

// SAFETY: the slabs are memory that only this value uses.
unsafe impl Send for Slabs {}

impl Slabs {
    pub(crate) const fn new() -> Self {
        Self {
            lists: [ptr::null_mut(); CLASSES],
        }
    }

    /// An object of this class.
    #[inline]
    pub(crate) fn take(&mut self, class: Class, pages: &mut Pages) -> Option<NonNull<u8>> {
        let list = &mut self.lists[class.index()];
        if list.is_null() {
            *list = new_slab(class, pages)?.as_ptr();
        }
        // SAFETY: a slab in the list is live memory that only this value reaches, one at a time.
        let slab = unsafe { &mut **list };
        let object: *mut u8 = match NonNull::new(slab.free) {
            Some(free) => {
                // SAFETY: a free object begins with the address of the next, by `give_back`.
                slab.free = unsafe { free.read() }.next;
                free.as_ptr().cast()
            }
            None => {
                let fresh = slab.fresh;
                slab.fresh += class.size();
                ptr::with_exposed_provenance_mut(fresh)
            }
        };
        slab.live += 1;
        if slab.live == slab.capacity {
            *list = slab.next;
            slab.next = ptr::null_mut();
            // SAFETY: the next slab in the list is live, and not the one borrowed above.
            if let Some(next) = unsafe { list.as_mut() } {
                next.previous = ptr::null_mut();
            }
        }
        NonNull::new(object)
    }

    /// Takes an object back. Its slab's pages go back when they are empty, unless the class
    /// would have no slab left.
    ///
    /// # Safety
    /// `object` is from [`take`](Self::take) with the same class and nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn give_back(
        &mut self,
        object: NonNull<u8>,
        class: Class,
        pages: &mut Pages,
    ) {
        let start = object.addr().get() & !(class.slab_size() - 1);
        let slab_start: *mut Slab = ptr::with_exposed_provenance_mut(start);
        // SAFETY: slabs are aligned to their size, so the object's slab begins here; it is live
        // memory that only this value reaches, one slab at a time.
        let slab = unsafe { &mut *slab_start };
        let object = object.cast::<Free>();
        // SAFETY: nobody uses the object, which has 16 bytes or more and is aligned to 16.
        unsafe { object.write(Free { next: slab.free }) };
        slab.free = object.as_ptr();
        let was_full = slab.live == slab.capacity;
        slab.live -= 1;
        if was_full {
            let next = mem::replace(&mut self.lists[class.index()], slab_start);
            slab.next = next;
            slab.previous = ptr::null_mut();
            // SAFETY: the head of the list so far is live, and not the slab borrowed above.
            if let Some(next) = unsafe { next.as_mut() } {
                next.previous = slab_start;
            }
        }
        if slab.live == 0 && !(slab.previous.is_null() && slab.next.is_null()) {
            self.remove(slab_start, class, pages);
        }
    }

    /// Gives back the pages of all slabs that are empty. Returns whether there were any.
    pub(crate) fn give_empty_slabs_back(&mut self, pages: &mut Pages) -> bool {
        let mut any = false;
        for class in (0..CLASSES as u8).map(Class) {
            let slab = self.lists[class.index()];
            // An empty one is the only one of its list: `give_back` sees to that.
            // SAFETY: as in `take`.
            if unsafe { slab.as_ref() }.is_some_and(|slab| slab.live == 0) {
                self.remove(slab, class, pages);
                any = true;
            }
        }
        any
    }

    /// Gives back the pages of a slab that is in its list and empty.
    fn remove(&mut self, slab: *mut Slab, class: Class, pages: &mut Pages) {
        // SAFETY: callers found it in a list: live, and borrowed no more.
        let Slab { previous, next, .. } = unsafe { slab.read() };
        // SAFETY: neighbours in a list are live slabs, other than this one.
        match unsafe { previous.as_mut() } {
            Some(previous) => previous.next = next,
            None => self.lists[class.index()] = next,
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_mut() } {
            next.previous = previous;
        }
        if let Some(start) = NonNull::new(slab) {
            // SAFETY: `new_slab` took these pages, and no object in them is in use.
            unsafe { pages.give_back(start.cast(), class.pages()) };
        }
    }
}

fn new_slab(class: Class, pages: &mut Pages) -> Option<NonNull<Slab>> {
    let start = pages.take(class.pages())?.cast::<Slab>();
    let capacity = (class.slab_size() - HEADER) / class.size();
    let slab = Slab {
        free: ptr::null_mut(),
        fresh: start.addr().get() + class.slab_size() - capacity * class.size(),
        live: 0,
        capacity: capacity as u32,
        previous: ptr::null_mut(),
        next: ptr::null_mut(),
    };
    // SAFETY: pages of our own, aligned, with room for more than the header.
    unsafe { start.write(slab) };
    Some(start)
}
