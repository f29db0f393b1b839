//! Several requests under way at a time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Awaits two futures at a time. They are begun in this order, and so are their requests: xenstored
/// deals with those of one guest in the order in which they were sent.
///
/// Each lies on the heap. Kept in place by an `async fn`, a future takes its size twice, as an
/// argument and where it is pinned: four times in a join of joins, eight times in the next.
pub fn join<A: Future, B: Future>(first: A, second: B) -> Join<A, B> {
    Join(Entry::new(first), Entry::new(second))
}

/// Awaits any number of futures at a time, begun in this order; gives their outputs in this order.
pub fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> JoinAll<F> {
    JoinAll(futures.into_iter().map(Entry::new).collect())
}

/// See [`join`].
#[must_use = "futures do nothing unless awaited"]
pub struct Join<A: Future, B: Future>(Entry<A>, Entry<B>);

/// See [`join_all`].
#[must_use = "futures do nothing unless awaited"]
pub struct JoinAll<F: Future>(Vec<Entry<F>>);

struct Entry<F: Future> {
    future: Pin<Box<F>>,
    output: Option<F::Output>,
}

impl<F: Future> Entry<F> {
    fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            output: None,
        }
    }

    /// Whether there is an output now.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if self.output.is_none()
            && let Poll::Ready(output) = self.future.as_mut().poll(context)
        {
            self.output = Some(output);
        }
        self.output.is_some()
    }
}

// Nothing but what the boxes hold is pinned.
impl<A: Future, B: Future> Unpin for Join<A, B> {}
impl<F: Future> Unpin for JoinAll<F> {}

impl<A: Future, B: Future> Future for Join<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self(first, second) = &mut *self;
        // Both, whatever comes of the first.
        if !(first.poll(context) & second.poll(context)) {
            return Poll::Pending;
        }
        match (first.output.take(), second.output.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            _ => Poll::Pending,
        }
    }
}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let entries = &mut self.0;
        let ready = entries
            .iter_mut()
            .fold(true, |ready, entry| entry.poll(context) & ready);
        match ready {
            true => Poll::Ready(entries.drain(..).filter_map(|entry| entry.output).collect()),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use core::future::poll_fn;
    use core::pin::pin;
    use core::task::Waker;
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
