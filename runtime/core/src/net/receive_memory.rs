//! Where a TCP socket has its receive buffer.
//!
//! smoltcp lends the free part of a send buffer (`Socket::send`), but never that of a receive
//! buffer, so its memory could not be given back while the connection idles.

use core::ops::Range;
use core::ptr;
use core::slice;

use alloc::vec::Vec;
use smoltcp::socket::tcp::{Socket, SocketBuffer};

/// The addresses of the receive buffer of one socket.
#[derive(Debug)]
pub(super) struct ReceiveMemory(Range<usize>);

impl ReceiveMemory {
    /// A socket with these buffers.
    pub(super) fn socket(mut receive: Vec<u8>, send: Vec<u8>) -> (Socket<'static>, Self) {
        let start = receive.as_mut_ptr().expose_provenance();
        let memory = Self(start..start + receive.len());
        let socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        (socket, memory)
    }

    /// The receive buffer of `socket`, the one this value was made with, if nothing in it waits
    /// to be read. `None` also when the peer has finished or the connection is over.
    ///
    /// Bytes that arrived out of order are in it, too, and smoltcp does not say so: the caller
    /// must know that there are none before it changes anything.
    pub(super) fn of<'a>(&self, socket: &'a mut Socket<'static>) -> Option<&'a mut [u8]> {
        // An empty look at the buffer tells where it is: it must be the one remembered.
        let inside = self.0.contains(&socket.peek(0).ok()?.as_ptr().addr());
        let same = inside && socket.recv_capacity() == self.0.len();
        if !same || socket.recv_queue() != 0 {
            return None;
        }
        let start = ptr::with_exposed_provenance_mut(self.0.start);
        // SAFETY: these are the bytes of the vector that `socket` was made with, and it still
        // has a buffer of this length there: smoltcp never exchanges or moves it. All ways to
        // the bytes lead through the socket, which is borrowed exclusively for as long as the
        // slice lives.
        Some(unsafe { slice::from_raw_parts_mut(start, self.0.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_socket_that_is_not_connected_lends_nothing() {
        let (mut socket, memory) = ReceiveMemory::socket(vec![0; 100], vec![0; 50]);
        assert!(memory.of(&mut socket).is_none());
        assert_eq!((socket.recv_capacity(), socket.send_capacity()), (100, 50));
    }
}
