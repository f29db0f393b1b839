//! Uploads of any size, sent back while they come in.
//!
//! The library's handlers read the whole body before they answer. Here the answer starts when
//! the beginning of the body is there; the rest is read from the connection itself, past the
//! library, which has nothing of it: it buffers no more than [`HEAD_BYTES`].

use alloc::vec::Vec;

use picoserve::io::Read;
use picoserve::request::Request;

use crate::content::Answer;
use crate::socket::Upload;

/// What the library may buffer of a connection: the head of a request, and with it perhaps
/// the beginning of the body.
pub(crate) const HEAD_BYTES: usize = 2048;

/// Bytes read from the connection at once.
const PIECE: usize = 8192;

/// Reads the beginning of the request's body, which has a known length, and answers with the
/// body.
pub(crate) async fn start<R: Read>(
    upload: &Upload,
    request: &mut Request<'_, R>,
) -> Result<Answer, R::Error> {
    let length = request.body_connection.content_length();
    // One byte more than the library can have buffered: now it has nothing left, and knows
    // it. If the body ends before that, all of it is here.
    let mut beginning = alloc::vec![0; length.min(HEAD_BYTES + 1)];
    let mut filled = 0;
    let mut body = request.body_connection.body().reader();
    while filled < beginning.len() {
        match body.read(&mut beginning[filled..]).await? {
            0 => break,
            count => filled += count,
        }
    }
    let echo = Echo {
        buffer: beginning,
        unsent: filled,
        upload: upload.clone(),
    };
    Ok(Answer::echo(length, echo))
}

/// A body on its way back.
pub(crate) struct Echo {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that came before the answer began.
    unsent: usize,
    upload: Upload,
}

impl Echo {
    /// The next piece of at most `rest` bytes; empty at the end, or if the connection failed.
    pub(crate) async fn next(&mut self, rest: usize) -> &[u8] {
        let mut count = core::mem::take(&mut self.unsent);
        if count == 0 {
            self.buffer.resize(PIECE, 0);
            let wanted = rest.min(PIECE);
            count = self.upload.read(&mut self.buffer[..wanted]).await;
        }
        &self.buffer[..count]
    }
}
