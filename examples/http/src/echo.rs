//! Uploads of any size, sent back while they come in.
//!
//! The library's handlers read the whole body before they answer. Here the answer starts when
//! the beginning of the body is there; the rest is read from the connection itself, past the
//! library, which has nothing of it: it buffers no more than [`HEAD_BYTES`].

use alloc::vec::Vec;

use picoserve::ResponseSent;
use picoserve::io::{Read, Write};
use picoserve::request::Request;
use picoserve::response::{Content, IntoResponse, Response, ResponseWriter, StatusCode};
use picoserve::routing::RequestHandlerService;

use crate::socket::Upload;

/// What the library may buffer of a connection: the head of a request, and with it perhaps
/// the beginning of the body.
pub(crate) const HEAD_BYTES: usize = 2048;

/// The handler.
pub(crate) struct Echo {
    pub(crate) upload: Upload,
}

impl RequestHandlerService for Echo {
    async fn call_request_handler_service<R: Read, W: ResponseWriter<Error = R::Error>>(
        &self,
        _state: &(),
        _parameters: (),
        mut request: Request<'_, R>,
        writer: W,
    ) -> Result<ResponseSent, W::Error> {
        if request.parts.headers().get("transfer-encoding").is_some() {
            let connection = request.body_connection.finalize().await?;
            let answer = (StatusCode::LENGTH_REQUIRED, "send the body with a length\n");
            return answer.write_to(connection, writer).await;
        }
        let length = request.body_connection.content_length();
        // One byte more than the library can have buffered: now it has nothing left, and
        // knows it. If the body ends before that, all of it is here.
        let mut beginning = alloc::vec![0; length.min(HEAD_BYTES + 1)];
        let mut filled = 0;
        let mut body = request.body_connection.body().reader();
        while filled < beginning.len() {
            match body.read(&mut beginning[filled..]).await? {
                0 => break,
                count => filled += count,
            }
        }
        beginning.truncate(filled);
        let connection = request.body_connection.finalize().await?;
        let echo = Body {
            length,
            beginning,
            upload: self.upload.clone(),
        };
        writer.write_response(connection, Response::ok(echo)).await
    }
}

struct Body {
    length: usize,
    beginning: Vec<u8>,
    upload: Upload,
}

impl Content for Body {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn content_length(&self) -> usize {
        self.length
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        writer.write_all(&self.beginning).await?;
        let mut rest = self.length - self.beginning.len();
        let mut buffer = alloc::vec![0; 8192.min(rest)];
        while rest > 0 {
            let wanted = rest.min(buffer.len());
            let count = self.upload.read(&mut buffer[..wanted]).await;
            if count == 0 {
                // The client ended in the middle. The library sees the same next.
                break;
            }
            writer.write_all(&buffer[..count]).await?;
            rest -= count;
        }
        Ok(())
    }
}
