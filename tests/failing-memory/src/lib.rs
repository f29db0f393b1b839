//! Memory that runs out where a test wants it to: for tests on the host, of what a crate does when
//! an allocation of its own fails.
//!
//! A test names the allocator and hands [`every_allocation`] what to try:
//!
//! ```
//! #[global_allocator]
//! static MEMORY: failing_memory::Allocator = failing_memory::Allocator;
//!
//! # fn main() {
//! let mut trial = failing_memory::Trial::failing(1);
//! let second = trial.run(|| {
//!     let _first = Vec::<u8>::with_capacity(10);
//!     Vec::<u8>::new().try_reserve_exact(20)
//! });
//! assert!(second.is_err());
//! # }
//! ```
//!
//! An allocation that cannot report its failure ends the process. So the trials run in a process of
//! their own, which is started again behind the one that ended it, and the test fails with a list
//! of the places.
//!
//! **What was just given back is still there.** A block that was taken and given back a moment ago serves
//! the next request of its size, and one of a page or more several smaller ones: these do not count, as nobody else
//! can have the memory. So code may ask for a block that it can do without, give it back, and then make
//! the `Rc` that could not be refused.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "an allocator is asked through an unsafe trait")]
mod allocator;
mod every;
mod state;

pub use allocator::Allocator;
pub use every::{Trial, every_allocation};
pub use state::unharmed;
