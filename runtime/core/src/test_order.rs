//! What a guest full of tests is asked to do: the value of its key on the command line.

use alloc::vec::Vec;
use core::fmt;

/// An order to a guest that was built for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestOrder {
    /// Print the names.
    List,
    /// Run these tests, by their numbers in the list.
    Run(Vec<usize>),
}

impl TestOrder {
    /// Reads an order: `list`, `all`, or numbers and ranges such as `0,4-6`, for a guest with
    /// `count` tests.
    ///
    /// # Errors
    /// Names the part that is no number of a test, before anything runs.
    pub fn parse(text: &str, count: usize) -> Result<Self, OrderError<'_>> {
        match text {
            "list" => return Ok(Self::List),
            "all" => return Ok(Self::Run((0..count).collect())),
            _ => {}
        }
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
            match range {
                Some((first, last)) if first <= last && last < count => {
                    numbers.extend(first..=last)
                }
                _ => return Err(OrderError { part, count }),
            }
        }
        Ok(Self::Run(numbers))
    }
}

/// An order that names no test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderError<'a> {
    part: &'a str,
    count: usize,
}

impl fmt::Display for OrderError<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` names no test: `list`, `all` or numbers below {} such as 0,4-6 are understood",
            self.part, self.count
        )
    }
}

impl core::error::Error for OrderError<'_> {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    #[test]
    fn numbers_and_ranges_are_run_in_the_order_given() {
        assert_eq!(TestOrder::parse("list", 0), Ok(TestOrder::List));
        assert_eq!(TestOrder::parse("all", 2), Ok(TestOrder::Run(vec![0, 1])));
        assert_eq!(
            TestOrder::parse("7,0,3-5", 8),
            Ok(TestOrder::Run(vec![7, 0, 3, 4, 5]))
        );
    }

    #[test]
    fn what_names_no_test_is_refused_as_a_whole() {
        for (text, part) in [
            ("", ""),
            ("0,8", "8"),
            ("3-1", "3-1"),
            ("0-18446744073709551615", "0-18446744073709551615"),
            ("18446744073709551616", "18446744073709551616"),
            ("-1", "-1"),
            ("0,,1", ""),
        ] {
            let error = TestOrder::parse(text, 8).unwrap_err().to_string();
            assert!(error.starts_with(&alloc::format!("`{part}` ")), "{error}");
        }
    }
}
