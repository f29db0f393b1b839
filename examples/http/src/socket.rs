//! What picoserve needs to run on rekernel's sockets and time.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use core::time::Duration;

use embedded_io_async::{ErrorType, Read, Write};
use picoserve::mem::{BorrowedBuffer, BorrowedCursor};
use picoserve::{Timeouts, Timer};
use rekernel::net::{OwnedReadHalf, OwnedWriteHalf, TcpError, TcpStream};

/// Names the runtime in picoserve's types.
pub(crate) enum Guest {}

/// Timers of the runtime.
pub(crate) struct GuestTimer;

impl Timer<Guest> for GuestTimer {
    fn delay(&self, duration: picoserve::time::Duration) -> impl Future<Output = ()> {
        rekernel::time::sleep(Duration::from_millis(duration.as_millis()))
    }
}

/// A connection for picoserve.
pub(crate) struct Socket {
    read: Upload,
    write: Writer,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read: Upload(Rc::new(RefCell::new(Some(read)))),
            write: Writer {
                half: write,
                buffer: vec![0; BUFFER].into(),
                used: 0,
            },
        }
    }

    /// The reading direction, for a handler that reads more than picoserve gives it.
    pub(crate) fn upload(&self) -> Upload {
        self.read.clone()
    }
}

impl picoserve::io::Socket<Guest> for Socket {
    type Error = TcpError;
    type ReadHalf<'a> = &'a mut Upload;
    type WriteHalf<'a> = &'a mut Writer;

    fn split(&mut self) -> (&mut Upload, &mut Writer) {
        (&mut self.read, &mut self.write)
    }

    async fn abort<T: Timer<Guest>>(
        self,
        _timeouts: &Timeouts,
        _timer: &T,
    ) -> Result<(), picoserve::Error<TcpError>> {
        self.write.half.abort();
        Ok(())
    }

    async fn shutdown<T: Timer<Guest>>(
        self,
        _timeouts: &Timeouts,
        _timer: &T,
    ) -> Result<(), picoserve::Error<TcpError>> {
        // Dropping both halves finishes the connection in order.
        Ok(())
    }
}

/// The reading direction, shared between picoserve and one handler, of which one reads at a
/// time. Whoever reads has the half taken out.
#[derive(Clone)]
pub(crate) struct Upload(Rc<RefCell<Option<OwnedReadHalf>>>);

impl Upload {
    /// Reads what is there, waiting for at least one byte; 0 at the end, or if the connection
    /// failed.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> usize {
        let mut lent = self.lend();
        match &mut lent.half {
            Some(half) => half.read(buffer).await.unwrap_or(0),
            None => 0,
        }
    }

    fn lend(&self) -> Lent<'_> {
        Lent {
            half: self.0.borrow_mut().take(),
            owner: self,
        }
    }
}

/// The half, until it is dropped: also if the read was abandoned.
struct Lent<'a> {
    half: Option<OwnedReadHalf>,
    owner: &'a Upload,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(half) = self.half.take() {
            self.owner.0.replace(Some(half));
        }
    }
}

impl ErrorType for Upload {
    type Error = TcpError;
}

impl Read for Upload {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TcpError> {
        let mut lent = self.lend();
        match &mut lent.half {
            Some(half) => half.read(buffer).await,
            None => Err(TcpError::Closed),
        }
    }
}

/// Bytes gathered before they are given to the connection: the library writes heads in many
/// small pieces.
const BUFFER: usize = 1024;

/// The writing direction.
pub(crate) struct Writer {
    half: OwnedWriteHalf,
    buffer: Box<[u8]>,
    used: usize,
}

impl Writer {
    async fn empty(&mut self) -> Result<(), TcpError> {
        let filled = core::mem::take(&mut self.used);
        self.half.write_all(&self.buffer[..filled]).await
    }
}

impl ErrorType for Writer {
    type Error = TcpError;
}

impl Write for Writer {
    async fn write(&mut self, data: &[u8]) -> Result<usize, TcpError> {
        if data.len() > self.buffer.len() - self.used {
            self.empty().await?;
        }
        if data.len() >= self.buffer.len() {
            return self.half.write(data).await;
        }
        self.buffer[self.used..][..data.len()].copy_from_slice(data);
        self.used += data.len();
        Ok(data.len())
    }

    async fn flush(&mut self) -> Result<(), TcpError> {
        self.empty().await?;
        self.half.flush().await
    }
}

impl picoserve::io::Write for Writer {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> R, R>(
        &mut self,
        fill: F,
    ) -> Result<R, TcpError> {
        if self.used == self.buffer.len() {
            self.empty().await?;
        }
        let mut free = BorrowedBuffer::new(&mut self.buffer[self.used..]);
        let result = fill(free.unfilled());
        self.used += free.len();
        Ok(result)
    }
}
