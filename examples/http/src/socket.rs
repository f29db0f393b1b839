//! What picoserve needs to run on rekernel's sockets and time.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::{Cell, RefCell};
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

/// A connection, with or without a request under way.
pub(crate) struct Connection {
    read: Upload,
    write: OwnedWriteHalf,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read: Upload(Rc::new(Reader {
                half: RefCell::new(Some(read)),
                reads: Cell::new(false),
            })),
            write,
        }
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn readable(&self) {
        if let Some(half) = &self.read.lend().half {
            half.readable().await;
        }
    }

    /// Whether the library, which has come to an end in order, did so while it waited for another
    /// request.
    pub(crate) fn awaits_request(&self) -> bool {
        self.read.0.reads.get()
    }

    /// The writing direction, for an answer without the library.
    pub(crate) fn writer(&mut self) -> &mut OwnedWriteHalf {
        &mut self.write
    }

    /// What the library needs to serve requests.
    pub(crate) fn socket(&mut self) -> Socket<'_> {
        Socket {
            read: self.read.clone(),
            write: Writer {
                half: &mut self.write,
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

/// A connection for picoserve.
pub(crate) struct Socket<'c> {
    read: Upload,
    write: Writer<'c>,
}

impl<'c> picoserve::io::Socket<Guest> for Socket<'c> {
    type Error = TcpError;
    type ReadHalf<'a>
        = &'a mut Upload
    where
        'c: 'a;
    type WriteHalf<'a>
        = &'a mut Writer<'c>
    where
        'c: 'a;

    fn split(&mut self) -> (&mut Upload, &mut Writer<'c>) {
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
        // The connection is its owner's, whom another request may reach. Dropping it finishes
        // it in order.
        Ok(())
    }
}

/// The reading direction, shared between picoserve and one handler, of which one reads at a
/// time. Whoever reads has the half taken out.
#[derive(Clone)]
pub(crate) struct Upload(Rc<Reader>);

struct Reader {
    half: RefCell<Option<OwnedReadHalf>>,
    /// The library is reading, or gave that up.
    reads: Cell<bool>,
}

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
            half: self.0.half.borrow_mut().take(),
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
            self.owner.0.half.replace(Some(half));
        }
    }
}

impl ErrorType for Upload {
    type Error = TcpError;
}

impl Read for Upload {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TcpError> {
        self.0.reads.set(true);
        let mut lent = self.lend();
        let result = match &mut lent.half {
            Some(half) => half.read(buffer).await,
            None => Err(TcpError::Closed),
        };
        self.0.reads.set(false);
        result
    }
}

/// Bytes gathered before they are given to the connection: the library writes heads in many
/// small pieces.
const BUFFER: usize = 1024;

/// The writing direction.
pub(crate) struct Writer<'c> {
    half: &'c mut OwnedWriteHalf,
    buffer: Box<[u8]>,
    used: usize,
}

impl Writer<'_> {
    async fn empty(&mut self) -> Result<(), TcpError> {
        let filled = core::mem::take(&mut self.used);
        self.half.write_all(&self.buffer[..filled]).await
    }
}

impl ErrorType for Writer<'_> {
    type Error = TcpError;
}

impl Write for Writer<'_> {
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

impl picoserve::io::Write for Writer<'_> {
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
