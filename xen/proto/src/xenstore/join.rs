//! Several requests under way at a time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;

/// Awaits two futures at a time. They are begun in this order, and so are their requests: xenstored
/// deals with those of one guest in the order in which they were sent.
pub async fn join<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_output, mut second_output) = (None, None);
    poll_fn(|context| {
        if first_output.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            first_output = Some(output);
        }
        if second_output.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            second_output = Some(output);
        }
        match (first_output.take(), second_output.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (first_output, second_output) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// Awaits any number of futures at a time, begun in this order; gives their outputs in this order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut entries: Vec<Entry<F>> = futures
        .into_iter()
        .map(|future| Entry {
            future: Box::pin(future),
            output: None,
        })
        .collect();
    poll_fn(|context| {
        let mut waits = false;
        for entry in entries.iter_mut().filter(|entry| entry.output.is_none()) {
            match entry.future.as_mut().poll(context) {
                Poll::Ready(output) => entry.output = Some(output),
                Poll::Pending => waits = true,
            }
        }
        match waits {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    entries
        .into_iter()
        .filter_map(|entry| entry.output)
        .collect()
}

struct Entry<F: Future> {
    future: Pin<Box<F>>,
    output: Option<F::Output>,
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use core::task::{Context, Waker};
    use std::vec;

    use super::*;

    #[test]
    fn all_are_begun_at_once_in_order_and_end_in_any() {
        let (begun, open) = (RefCell::new(vec![]), Cell::new(0));
        let one = |number: u32| {
            let (begun, open) = (&begun, &open);
            async move {
                begun.borrow_mut().push(number);
                // The last one ends first.
                poll_fn(|_| match open.get() + number >= 3 {
                    true => Poll::Ready(number * 10),
                    false => Poll::Pending,
                })
                .await
            }
        };
        let mut both = pin!(join(one(0), join_all([one(1), one(2)])));
        let mut context = Context::from_waker(Waker::noop());
        for opened in 0..3 {
            open.set(opened);
            assert!(both.as_mut().poll(&mut context).is_pending());
            assert_eq!(*begun.borrow(), [0, 1, 2]);
        }
        open.set(3);
        let Poll::Ready(outputs) = both.as_mut().poll(&mut context) else {
            panic!("all could end");
        };
        assert_eq!(outputs, (0, vec![10, 20]));
    }
}
