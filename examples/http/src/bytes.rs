//! Downloads of any size.

use picoserve::io::Write;
use picoserve::response::Content;

/// `length` bytes, of which number i is i modulo 251: a prime, so that a piece lost or moved
/// by any likely distance shows.
pub(crate) struct Bytes {
    pub(crate) length: usize,
}

const PERIOD: usize = 251;
const BLOCK: usize = PERIOD * 32;

/// A whole number of periods, so that every block of a download is the same.
static PATTERN: [u8; BLOCK] = {
    let mut pattern = [0; BLOCK];
    let mut index = 0;
    while index < BLOCK {
        pattern[index] = (index % PERIOD) as u8;
        index += 1;
    }
    pattern
};

impl Content for Bytes {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn content_length(&self) -> usize {
        self.length
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        let mut rest = self.length;
        while rest > 0 {
            let block = &PATTERN[..rest.min(BLOCK)];
            writer.write_all(block).await?;
            rest -= block.len();
        }
        Ok(())
    }
}
