//! Questions of an operator in dom0.

use xen::questions::Questions;

use super::Store;
use crate::monitor;

/// Answers questions from now on.
pub(super) async fn answer(store: Store) {
    let mut questions = Questions::new(store.clone());
    loop {
        let question = match questions.next().await {
            Ok(question) => question,
            Err(error) => {
                log::error!("no questions of the host any more: {error}");
                return;
            }
        };
        let report = |section, tell: &mut rekernel_core::report::Sink<'_>| {
            super::report(section, &store, tell);
        };
        let Some(text) = monitor::answer(&question, report).await else {
            log::debug!("the host asks something without a number: {question:?}");
            continue;
        };
        // The first word of both.
        let number = text.split(' ').next().unwrap_or_default();
        if let Err(error) = questions.answer(number, &text).await {
            log::warn!("a question of the host goes without an answer: {error}");
        }
    }
}
