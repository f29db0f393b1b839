//! What `virtio-drivers` needs to reach memory and registers.

use core::ptr::NonNull;

use pvh_boot::paging;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::{buffers, dma};

/// Memory of the DMA pool. Physical addresses are virtual ones, and PC devices are coherent
/// with the caches, so sharing a buffer costs nothing.
#[derive(Debug)]
pub(crate) struct DeviceMemory;

// SAFETY: `dma_alloc` gives zeroed pages of a pool that nothing else uses, aligned to pages;
// `mmio_phys_to_virt` gives device registers, which `map_device` never mixes with RAM.
unsafe impl Hal for DeviceMemory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // An address of 0 is this crate's word for "none left".
        dma::take(pages).map_or((0, NonNull::dangling()), |start| (address(start), start))
    }

    unsafe fn dma_dealloc(_physical: PhysAddr, start: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: by this function's contract the pages are from `dma_alloc`. No device has them:
        // the queues that devices use are not the crate's.
        unsafe { dma::give_back(start, pages) };
        0
    }

    unsafe fn mmio_phys_to_virt(start: PhysAddr, size: usize) -> NonNull<u8> {
        paging::map_device(start, size as u64).expect("virtio registers can be mapped")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        address(buffer.cast())
    }

    unsafe fn unshare(_physical: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// # Panics
/// For memory that is not at its physical address, which a device cannot reach.
fn address(pointer: NonNull<u8>) -> PhysAddr {
    assert!(
        !buffers::is_ours(pointer.addr().get()),
        "a socket's buffer is not for devices"
    );
    pointer.as_ptr() as PhysAddr
}
