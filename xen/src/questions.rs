//! Questions of an operator in dom0, by way of xenstore.
//!
//! The host writes a line to [`QUESTION`] in the directory of this domain; the guest removes the node,
//! writes the answer in pieces to `0`, `1`, ... below [`ANSWER`], and at last, to [`ANSWER`] itself, the number that the
//! question began with and how many pieces there are. `data` is for agreements of this kind
//! (`docs/misc/xenstore-paths.pandoc` in Xen's tree): besides the guest, only the host reads and writes there.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenstore::{Store, StoreError};

use crate::node::Node;

/// Where a question is written.
pub const QUESTION: &str = "data/rekernel/question";

/// Where its answer is written.
pub const ANSWER: &str = "data/rekernel/answer";

/// Bytes of a piece, if its lines are no longer: xenstored lets a guest's node have 2048.
const LONGEST_PIECE: usize = 1024;

/// Pieces of an answer. More lines are left out: xenstored counts the nodes of each guest.
const MOST_PIECES: usize = 40;

/// The questions, one after the other.
pub struct Questions<H: Hypervisor> {
    store: Store<H>,
    node: Node<H>,
    /// Pieces of the last answer.
    pieces: usize,
}

impl<H: Hypervisor> Questions<H> {
    /// Nothing is asked of xenstore yet.
    #[must_use]
    pub fn new(store: Store<H>) -> Self {
        Self {
            node: Node::new(store.clone(), QUESTION),
            store,
            pieces: 0,
        }
    }

    /// Waits for the next question and takes it.
    ///
    /// # Errors
    /// [`StoreError::Broken`] only: whatever else fails is logged and tried again.
    pub async fn next(&mut self) -> Result<String, StoreError> {
        self.node
            .next(None, async |store, _| take(store).await)
            .await
    }

    /// Answers the question that began with `number`.
    ///
    /// # Errors
    /// [`StoreError`]: then there is no whole answer.
    pub async fn answer(&mut self, number: &str, text: &str) -> Result<(), StoreError> {
        let mut pieces = pieces(text);
        pieces.truncate(MOST_PIECES);
        for (place, piece) in pieces.iter().enumerate() {
            self.store
                .write(&format!("{ANSWER}/{place}"), piece)
                .await?;
        }
        // What the last answer had beyond this one.
        for place in pieces.len()..self.pieces {
            match self.store.remove(&format!("{ANSWER}/{place}")).await {
                Err(error) if error.is_not_found() => {}
                outcome => outcome?,
            }
        }
        self.pieces = pieces.len();
        let ending = format!("{number} {}", pieces.len());
        self.store.write(ANSWER, &ending).await
    }
}

/// Takes the question out of its node, which goes: empty, it would be a change once more.
async fn take<H: Hypervisor>(store: &Store<H>) -> Result<Option<String>, StoreError> {
    store
        .transaction(async |transaction| {
            let question = match transaction.read(QUESTION).await {
                Err(error) if error.is_not_found() => return Ok(None),
                Err(StoreError::NotText { .. }) => String::new(),
                question => question?,
            };
            transaction.remove(QUESTION).await?;
            Ok(Some(question))
        })
        .await
}

/// The text in pieces of whole lines, each without its last line feed. A line that is longer than a piece may be is cut.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut end = line.len().min(LONGEST_PIECE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = &line[..end];
        match pieces.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= LONGEST_PIECE => {
                last.push('\n');
                last.push_str(line);
            }
            _ => pieces.push(line.to_string()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use xen_proto::fake::TestBed;

    use super::*;

    const DOMAIN: &str = "/local/domain/7";

    fn node(bed: &TestBed, path: &str) -> Option<String> {
        bed.xenstored.read(&format!("{DOMAIN}/{path}"))
    }

    fn ask(bed: &TestBed, question: &str) {
        let path = format!("{DOMAIN}/{QUESTION}");
        bed.xenstored.write(&path, question);
        bed.xenstored.set_owner(&path, TestBed::GUEST, &[]);
        bed.executor.run_until_stalled();
    }

    /// A guest that answers the number `n` of a question with `n` lines.
    fn answering(bed: &TestBed) -> Rc<RefCell<Vec<String>>> {
        // As libxl does.
        let data = format!("{DOMAIN}/data");
        bed.xenstored.write(&data, "");
        bed.xenstored.set_owner(&data, TestBed::GUEST, &[]);
        let asked = Rc::new(RefCell::new(Vec::new()));
        let (store, notes) = (bed.store.clone(), asked.clone());
        bed.executor.spawn(async move {
            let mut questions = Questions::new(store);
            while let Ok(question) = questions.next().await {
                let lines: usize = question.parse().unwrap_or(0);
                notes.borrow_mut().push(question.clone());
                let text = "x".repeat(99) + "\n";
                questions
                    .answer(&question, &text.repeat(lines))
                    .await
                    .unwrap();
            }
        });
        bed.executor.run_until_stalled();
        asked
    }

    #[test]
    fn a_question_is_taken_once_and_its_answer_comes_in_pieces() {
        let bed = TestBed::new();
        let asked = answering(&bed);
        assert_eq!(*asked.borrow(), [""; 0]);
        ask(&bed, "25");
        assert_eq!(*asked.borrow(), ["25"]);
        assert_eq!(node(&bed, QUESTION), None);
        // Ten lines of a hundred bytes in each piece.
        assert_eq!(node(&bed, ANSWER).as_deref(), Some("25 3"));
        let piece = |place: usize| node(&bed, &format!("{ANSWER}/{place}"));
        assert_eq!(piece(0).unwrap().lines().count(), 10);
        assert_eq!(piece(2).unwrap().lines().count(), 5);
        // A shorter one leaves nothing of it.
        ask(&bed, "1");
        assert_eq!(node(&bed, ANSWER).as_deref(), Some("1 1"));
        assert_eq!(piece(0).unwrap().len(), 99);
        assert_eq!((piece(1), piece(2)), (None, None));
    }

    #[test]
    fn an_answer_takes_no_more_nodes_than_it_may() {
        let bed = TestBed::new();
        answering(&bed);
        ask(&bed, "100000");
        let ending = format!("100000 {MOST_PIECES}");
        assert_eq!(node(&bed, ANSWER), Some(ending));
        assert_eq!(node(&bed, &format!("{ANSWER}/{MOST_PIECES}")), None);
    }

    #[test]
    fn pieces_are_whole_lines() {
        assert_eq!(pieces(""), [""; 0]);
        assert_eq!(pieces("a\nb\n"), ["a\nb"]);
        let long = "é".repeat(LONGEST_PIECE);
        assert_eq!(pieces(&format!("a\n{long}\nb")).len(), 3);
        assert!(pieces(&long)[0].len() <= LONGEST_PIECE);
    }
}
