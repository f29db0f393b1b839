//! What is sent: texts, downloads of any size, and uploads on their way back.

use alloc::rc::Rc;
use alloc::string::String;

use picoserve::io::Write;
use picoserve::response::Content;

use crate::echo::Echo;

/// The body of a response, of a known length.
pub(crate) struct Answer {
    kind: &'static str,
    length: usize,
    body: Body,
}

enum Body {
    /// Nothing, whatever the length says: the answer to HEAD.
    Left,
    Text(String),
    Bytes(Pattern),
    Echo(Echo),
}

impl Answer {
    /// A message to a person.
    pub(crate) fn text(text: String) -> Self {
        Self::new("text/plain; charset=utf-8", text.len(), Body::Text(text))
    }

    /// A page for a browser.
    pub(crate) fn page(page: String) -> Self {
        Self::new("text/html; charset=utf-8", page.len(), Body::Text(page))
    }

    /// `length` bytes, of which number i is i modulo 251.
    pub(crate) fn bytes(length: usize, pattern: &Pattern) -> Self {
        Self::new(BINARY, length, Body::Bytes(pattern.clone()))
    }

    /// The request's body, of `length` bytes.
    pub(crate) fn echo(length: usize, echo: Echo) -> Self {
        Self::new(BINARY, length, Body::Echo(echo))
    }

    /// The same headers and nothing else.
    pub(crate) fn without_body(self) -> Self {
        Self {
            body: Body::Left,
            ..self
        }
    }

    fn new(kind: &'static str, length: usize, body: Body) -> Self {
        Self { kind, length, body }
    }
}

const BINARY: &str = "application/octet-stream";

impl Content for Answer {
    fn content_type(&self) -> &'static str {
        self.kind
    }

    fn content_length(&self) -> usize {
        self.length
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        let mut rest = self.length;
        let mut body = self.body;
        while rest > 0 {
            let piece = match &mut body {
                Body::Left => break,
                Body::Text(text) => text.as_bytes(),
                Body::Bytes(pattern) => &pattern.0[..rest.min(BLOCK)],
                Body::Echo(echo) => echo.next(rest).await,
            };
            if piece.is_empty() {
                // The client ended in the middle. The library sees the same next.
                break;
            }
            writer.write_all(piece).await?;
            rest -= piece.len();
        }
        Ok(())
    }
}

/// The bytes of which downloads are made: number i is i modulo 251, a prime, so that a piece
/// lost or moved by any likely distance shows. All downloads share it.
#[derive(Clone)]
pub(crate) struct Pattern(Rc<[u8]>);

const PERIOD: usize = 251;
/// A whole number of periods, so that every block of a download is the same.
const BLOCK: usize = PERIOD * 32;

impl Pattern {
    pub(crate) fn new() -> Self {
        Self((0..BLOCK).map(|index| (index % PERIOD) as u8).collect())
    }
}
